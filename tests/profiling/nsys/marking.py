"""A program that marks ranges by `profiling.spans`, for a real nsys to hear: in threads, and in a child that it starts.

``python marking.py TIMES THREADS`` marks and ends; with ``until-told`` as a third word it marks until SIGINT.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from slipstream.profiling.spans import begin, is_traced, span

TOLD = threading.Event()


def mark(number: int) -> None:
    request = f"request-{number}"
    with span("retrieve", request), span("embed", request):
        time.sleep(0.001)  # what is long enough to be recorded as a call
    begun = begin("decode", request)
    with span("step", 3):
        pass
    threading.Thread(target=begun.end).start()


def work(thread: int, times: int) -> None:
    for number in range(times):
        mark(thread * times + number)


def main(times: int, threads: int, word: str) -> None:
    assert is_traced(), "nobody listens"
    if word == "until-told":
        signal.signal(signal.SIGINT, lambda *_: TOLD.set())
        print('{"ready": {"url": "http://127.0.0.1:9", "problem": null}}', flush=True)
        number = 0
        while not TOLD.is_set():
            mark(number)
            number += 1
        return
    child = None if word == "child" else subprocess.Popen([sys.executable, Path(__file__), str(times), "1", "child"])
    workers = [threading.Thread(target=work, args=(thread, times)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if child is not None:
        assert child.wait() == 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
