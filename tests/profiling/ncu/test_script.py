"""How the script of a capture by hand brings the key of a server."""

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slipstream.loadtest.credentials import API_KEY
from slipstream.profiling.ncu.script import _ASK


@pytest.mark.parametrize(("key", "brought"), [("sk-1 x", "Bearer sk-1 x"), ("", None)])
def test_a_key_is_brought_in_the_header_and_in_no_command_line(key: str, brought: str | None) -> None:
    heard: list[str | None] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *said: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        before = (
            f"deadline=60 ncu=0 url=http://127.0.0.1:{server.server_port}; running() {{ true; }}; kill() {{ true; }}"
        )
        done = subprocess.run(
            ["bash", "-xeuc", f"{before}\n{_ASK}\nask 1"],
            env={**os.environ, API_KEY: key}, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert heard == [brought]
    (command,) = [line for line in done.stderr.splitlines() if " curl " in line]
    assert "sk-1" not in command
