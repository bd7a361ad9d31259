"""What telemetry costs: processor time of the sampler at its interval and of a scrape, beside seven processes.

Run: ``python -m tests.benchmarks.profiling.telemetry`` (an idle machine; ``--url`` watches a server that runs there).
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from slipstream.api import machine
from slipstream.api.machine import MachineCollector
from slipstream.profiling.telemetry.processes import server_processes
from slipstream.profiling.telemetry.sampler import INTERVAL_S, Sampler, read_telemetry
from tests.benchmarks.served import machine as kind_of_machine
from tests.benchmarks.served import spread

LENGTH_S, SCRAPES, CHILDREN = 20.0, 20, 6


@contextmanager
def family() -> Iterator[Mapping[int, str]]:
    """This process with as many children as a server has."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(CHILDREN)]
    try:
        yield {os.getpid(): "server"}
    finally:
        for child in children:
            child.kill()
            child.wait()


def sampling(roots: Mapping[int, str]) -> str:
    """Nothing else runs in this process meanwhile, so its time is the sampler's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "telemetry.jsonl"
        with Sampler(path, roots):
            spent, started = time.process_time(), time.perf_counter()
            time.sleep(LENGTH_S)
            spent, length = time.process_time() - spent, time.perf_counter() - started
        looks, size = read_telemetry(path, 0.0), path.stat().st_size
    last = looks[-1]
    return (
        f"sampler, every {INTERVAL_S:g} s: {spent / length:.2%} of one core, {1e3 * spent / len(looks):.1f} ms a look "
        f"at {len(last.processes)} processes and {len(last.gpus)} GPUs, {size / len(looks):,.0f} bytes a line"
    )


def scraping() -> str:
    """Processor time of each scrape; the first of them opens NVML and is left out."""
    machine._KEPT_S = 0.0
    collector, took = MachineCollector(), []
    for _ in range(SCRAPES + 1):
        spent = time.process_time()
        collector.collect()
        took.append(1e3 * (time.process_time() - spent))
    return f"scrape: {spread(took[1:])} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server on this machine")
    url = parser.parse_args().url
    print(f"machine: {kind_of_machine()}, {len(psutil.pids())} processes")
    with family() as own:
        print(sampling(server_processes(url) if url else own))
        print(scraping())


if __name__ == "__main__":
    main()
