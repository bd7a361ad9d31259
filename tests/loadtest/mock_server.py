"""A completions server of known truth, in a process of its own: it says when it wrote each first chunk.

    python -m tests.loadtest.mock_server [--truth FILE] [--always JSON]

It prints its port. A request's ``mock`` field (a scenario's ``extra_body.mock``) says how to answer: ``chunks`` content
chunks at ``rate`` per second, the first after ``first_s`` seconds. ``--always`` goes before it, so that two servers can
differ; there ``texts`` may hold what is answered to a prompt and ``sources`` what it is said to come from. Each line of
the truth holds the prompt, the moments (``time.perf_counter``, which all processes of one Linux machine share) at which
the request was read and the first and the last chunk were written, and how many there were.

Asked for its times (``x-slipstream-timing``) it tells them as Slipstream does, unless ``tells`` is false; ``stages``
divides the time before the first chunk, by shares.

With ``--slots`` only so many are answered at once, and others wait in turn: its capacity is the number of slots over
the time of an answer, which is ``first_s + (chunks - 1) / rate``.
"""

import argparse
import asyncio
import gc
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, time
from typing import Any, TextIO

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _framed(payload: str) -> bytes:
    data = f"data: {payload}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunk(content: str | None, finish: str | None = None) -> dict[str, Any]:
    """A part of a streamed chat completion."""
    delta = {"role": "assistant"} if content is None else {"content": content}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock",
        "choices": [{"index": 0, "delta": {} if finish else delta, "finish_reason": finish}],
    }  # fmt: skip


_ROLE = _framed(json.dumps(chunk(None)))
_CONTENT = _framed(json.dumps(chunk(" word")))
_STOP = _framed(json.dumps(chunk("", "stop")))


class Slots:
    """So many answers at once; None: any number."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        self._taken: set[object] = set()
        self._waiting: deque[tuple[object, Callable[[], None]]] = deque()

    def take(self, owner: object, begin: Callable[[], None]) -> None:
        """``begin`` now, or when it is the owner's turn."""
        if self._number is None or len(self._taken) < self._number:
            self._taken.add(owner)
            begin()
        else:
            self._waiting.append((owner, begin))

    def leave(self, owner: object) -> None:
        """Whether it is answered, waits or does neither."""
        self._waiting = deque(one for one in self._waiting if one[0] is not owner)
        if owner in self._taken:
            self._taken.remove(owner)
            if self._waiting:
                self.take(*self._waiting.popleft())


class Told:
    """The times of one answer, as Slipstream tells them."""

    def __init__(self, read: float, shares: dict[str, float]) -> None:
        self._read, self._shares = read, shares
        self._unix_s = time() - (perf_counter() - read)
        self._spans: list[tuple[str, float, float]] = []
        self._at = read

    def _until(self, stage: str, moment: float) -> None:
        self._spans.append((stage, 1e3 * (self._at - self._read), 1e3 * (moment - self._at)))
        self._at = moment

    def begin(self, first_s: float) -> None:
        self._until("queue", perf_counter())
        for stage, share in self._shares.items():
            self._until(stage, self._at + share * first_s)

    def step(self) -> None:
        self._until("decode", perf_counter())

    def timing(self, said: dict[str, Any]) -> dict[str, Any]:
        self._until("stream", perf_counter())
        stages: dict[str, float] = {}
        for stage, _, length in self._spans:
            stages[stage] = stages.get(stage, 0.0) + length
        return {
            "id": "chatcmpl-1", "request_id": "r1", "received_unix_s": self._unix_s, "stages": stages,
            "ttft_ms": 1e3 * (said["first"] - self._read), "end_to_end_ms": 1e3 * (self._at - self._read),
            "decode_steps": said["chunks"] - 1, "cached_prompt_tokens": 0, "spans": self._spans, "beside": {},
        }  # fmt: skip


class Answering(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, truth: TextIO | None, always: dict[str, Any], slots: Slots) -> None:
        self._truth, self._always, self._slots = truth, always, slots
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._slots.leave(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"POST"):  # no metadata, as other servers have none
            self._received.clear()
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        if len(rest) >= length:
            self._received.clear()
            self._answer(json.loads(rest[:length]), perf_counter(), asks=b"x-slipstream-timing: 1" in head.lower())

    def _answer(self, body: dict[str, Any], moment: float, *, asks: bool) -> None:
        mock = {"chunks": 8, "rate": 50.0, "first_s": 0.01} | body.get("mock", {}) | self._always
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        said = {"prompt": prompt, "read": moment, "chunks": mock["chunks"]}
        if (text := mock.get("texts", {}).get(prompt)) is not None:
            said["words"] = [f" {word}" for word in text.split()]
            said["chunks"] = len(said["words"])
        said["sources"] = mock.get("sources", {}).get(prompt)
        if asks and mock.get("tells", True):
            said["timing"] = Told(moment, mock.get("stages", {"prefill": 1.0}))
        self._transport.write(_HEAD + _ROLE)
        self._slots.take(self, lambda: self._begin(said, mock["first_s"], 1 / mock["rate"]))

    def _begin(self, said: dict[str, Any], first_s: float, gap: float) -> None:
        begin = self._loop.time() + first_s
        if "timing" in said:
            said["timing"].begin(first_s)
        self._timer = self._loop.call_at(begin, self._go_on, said, 0, begin, gap)

    def _go_on(self, said: dict[str, Any], number: int, begin: float, gap: float) -> None:
        if number == 0:
            said["first"] = perf_counter()
        elif "timing" in said and number < said["chunks"]:
            said["timing"].step()
        if number < said["chunks"]:
            words = said.get("words")
            self._transport.write(_framed(json.dumps(chunk(words[number]))) if words else _CONTENT)
            due = begin + (number + 1) * gap if number + 1 < said["chunks"] else self._loop.time()
            self._timer = self._loop.call_at(due, self._go_on, said, number + 1, begin, gap)
            said["last"] = perf_counter()
            return
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": said["chunks"]}}
        closing = _framed(json.dumps({"choices": []} | said["sources"])) if said["sources"] else b""
        told = said.pop("timing", None)
        times = _framed(json.dumps({"choices": [], "timing": told.timing(said)})) if told else b""
        self._transport.write(_STOP + closing + _framed(json.dumps(usage)) + times + _framed("[DONE]") + b"0\r\n\r\n")
        self._slots.leave(self)
        if self._truth is not None:
            self._truth.write(json.dumps(said) + "\n")
            self._truth.flush()


async def serve(truth: TextIO | None, always: dict[str, Any], slots: Slots) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(truth, always, slots), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, help="where the truth is written")
    parser.add_argument("--slots", type=int, help="how many are answered at once; others wait")
    parser.add_argument("--always", type=json.loads, default={}, help="how to answer, whatever is asked")
    arguments = parser.parse_args()
    truth = arguments.truth.open("w", encoding="utf-8") if arguments.truth else None
    gc.freeze()
    gc.disable()  # a pause of the server's would look like an error of the client's
    try:
        asyncio.run(serve(truth, arguments.always, Slots(arguments.slots)))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
