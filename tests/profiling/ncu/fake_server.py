"""Stands in for the server under ``ncu``: says that it is ready, counts questions, and has a child of its own.

After ten questions it writes ``FAKE_SERVER_ASKED``: the last one. Its child's id is in ``FAKE_SERVER_CHILD``. With the
argument ``broken`` it ends with an error instead.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    count = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Handler.count += 1
        if Handler.count == 10:
            aside = Path(os.environ["FAKE_SERVER_ASKED"] + ".aside")
            aside.write_bytes(body)
            aside.rename(os.environ["FAKE_SERVER_ASKED"])
        self.send_response(503 if Handler.count % 3 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if "broken" in sys.argv:
        sys.exit("error: no bundle was built yet")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    child = subprocess.Popen(["sleep", "600"])
    Path(os.environ["FAKE_SERVER_CHILD"]).write_text(str(child.pid), encoding="utf-8")
    print("loading", flush=True)
    print(json.dumps({"ready": {"url": f"http://127.0.0.1:{server.server_port}"}}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
