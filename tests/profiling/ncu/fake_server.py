"""Stands in for the server under ``ncu``: says that it is ready, counts questions, and has a child of its own.

After ten questions, of ``FAKE_SERVER_STREAMS`` (1) streams, it writes ``FAKE_SERVER_ASKED``: the last one. Its child's
id is in ``FAKE_SERVER_CHILD``. With the argument ``broken`` it ends with an error instead. ``FAKE_SERVER_REFUSES`` is
the status of all its answers. With ``--port`` it is late: it listens after half a second, and is ready after another.
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    count = 0
    ready_at = 0.0
    streams: set[str] = set()  # noqa: RUF012  one server
    wanted = int(os.environ.get("FAKE_SERVER_STREAMS", "1"))

    def do_GET(self) -> None:
        is_ready = self.path == "/health/ready" and time.monotonic() >= Handler.ready_at
        self._answer(200 if is_ready else 503)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if refuses := os.environ.get("FAKE_SERVER_REFUSES"):
            self._answer(int(refuses))
            return
        if time.monotonic() < Handler.ready_at or self.path != "/v1/chat/completions":
            self._answer(404)
            return
        Handler.count += 1
        Handler.streams.add(json.loads(body)["messages"][0]["content"].partition(".")[0])
        asked = Path(os.environ["FAKE_SERVER_ASKED"])
        if Handler.count >= 10 and len(Handler.streams) >= Handler.wanted and not asked.exists():
            aside = Path(f"{asked}.{Handler.count}.aside")
            aside.write_bytes(body)
            aside.rename(asked)
        self._answer(503 if Handler.count % 3 == 0 else 200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if "broken" in sys.argv:
        sys.exit("error: no bundle was built yet")
    port = int(sys.argv[sys.argv.index("--port") + 1]) if "--port" in sys.argv else 0
    if port:
        time.sleep(0.5)
        Handler.ready_at = time.monotonic() + 0.5
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    child = subprocess.Popen(["sleep", "600"])
    Path(os.environ["FAKE_SERVER_CHILD"]).write_text(str(child.pid), encoding="utf-8")
    print("loading", flush=True)
    print(json.dumps({"ready": {"url": f"http://127.0.0.1:{server.server_port}"}}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
