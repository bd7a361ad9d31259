"""A judge that is no model: an OpenAI-compatible endpoint over real HTTP whose words a test decides.

It knows DeepEval's metrics by what their prompts ask for, and answers in the JSON that they read.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, str]
"""Status and body."""


@dataclass
class FakeJudge:
    """``answers`` are tried in order: (words of a prompt, what is answered to it)."""

    answers: list[tuple[str, str]]
    wrapped: Callable[[str], Reply] = lambda content: (
        200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})
    )  # fmt: skip
    prompts: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    url: str = ""

    def reply(self, prompt: str) -> Reply:
        content = next((answer for words, answer in self.answers if words in prompt), "I do not know.")
        return self.wrapped(content)


@contextmanager
def serving(judge: FakeJudge) -> Iterator[FakeJudge]:
    """``judge`` on a free port of 127.0.0.1."""
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            with guard:
                judge.prompts.append(prompt)
                judge.headers.append(dict(self.headers))
                judge.bodies.append(body)
            status, text = (404, "no such path") if self.path != "/v1/chat/completions" else judge.reply(prompt)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None: ...  # noqa: A002  # the base class's name

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
