"""A server that answers every chat with three words and marks its stages: it stands in for the appliance under nsys.

``python answering.py [PORT]`` says ``ready`` as ``slipstream serve --json`` does and ends on SIGINT.
"""

import json
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from slipstream.profiling.spans import begin, span

NUMBERS = count()
_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock"}


def event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({**_CHUNK, "choices": [choice]}).encode() + b"\n\n"


class Chat(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = f"request-{next(NUMBERS)}"
        queued = begin("queue", request)
        self.rfile.read(int(self.headers["Content-Length"]))
        queued.end()
        with span("embed", request):
            time.sleep(0.002)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for stage in ("prefill", "decode", "decode"):
            running = begin("prefill" if stage == "prefill" else "decode", request)
            with span("step", 1):
                time.sleep(0.003)
            running.end()
            with span("stream", request):
                self.wfile.write(event("word"))
        self.wfile.write(event("", "stop") + b"data: [DONE]\n\n")

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:2] else 0), Chat)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(json.dumps({"ready": {"url": url, "problem": None}}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
