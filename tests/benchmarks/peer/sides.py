"""The two engines behind one call: some prompts at once, greedily, and when each token of each came.

Token ids go in and come out of both, so neither tokenizes. The peer is asked over HTTP, which is its interface; what
that costs it is seen by comparing the clock with the ``timings`` that it reports itself.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from slipstream.loadtest.peers.serving import LlamaServer

SLOTS, CONTEXT_TOKENS, THREADS = 8, 2048, 2

Prompts = Sequence[Sequence[int]]


@dataclass
class Stream:
    """One generation.

    Attributes:
        arrivals: seconds from the common start to each token [tokens].
        own_prefill_s, own_decode_s: what the engine itself says it took; 0 where it says nothing.
    """

    token_ids: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    own_prefill_s: float = 0.0
    own_decode_s: float = 0.0


class Side(Protocol):
    name: str
    pid: int

    def run(self, prompts: Prompts, max_tokens: int, *, ignore_eos: bool = True) -> list[Stream]:
        """Continue all of ``prompts`` at once by at most ``max_tokens`` (exactly so if ``ignore_eos``)."""
        ...


class Ours(AbstractContextManager["Ours"]):
    """`OpenVinoRuntime`, with the prefix cache and everything else as it serves."""

    name = "slipstream"

    def __init__(self, engine_dir: Path, options: RuntimeOptions | None = None) -> None:
        self._runtime = OpenVinoRuntime(engine_dir, options or RuntimeOptions(max_concurrency=SLOTS, threads=THREADS))
        self.pid = self._runtime.pid
        self._count = 0

    def __exit__(self, *exception: object) -> None:
        self._runtime.close()

    def run(self, prompts: Prompts, max_tokens: int, *, ignore_eos: bool = True) -> list[Stream]:
        streams = [Stream() for _ in prompts]
        finished = threading.Semaphore(0)
        started = time.perf_counter()
        for prompt, stream in zip(prompts, streams, strict=True):
            self._submit(prompt, Sampling(max_tokens, ignore_eos=ignore_eos), stream, started, finished)
        for _ in prompts:
            finished.acquire()
        return streams

    def _submit(
        self, prompt: Sequence[int], sampling: Sampling, stream: Stream, started: float, finished: threading.Semaphore
    ) -> None:
        def emit(delta: TokenDelta) -> None:
            stream.token_ids += delta.token_ids
            stream.arrivals += [time.perf_counter() - started] * len(delta.token_ids)
            if delta.finish_reason:
                assert delta.finish_reason != "error", delta.error
                finished.release()

        self._count += 1
        self._runtime.submit(GenerationRequest(str(self._count), prompt, sampling), emit)


_EVENT = re.compile(rb"^data: (\{.*\})", re.MULTILINE)


class Peer(LlamaServer):
    """A `llama-server` process with ``flags``, besides those that make the sides comparable."""

    name = "llama-server"

    def __init__(self, program: Path, gguf: Path, flags: Sequence[str], log: Path) -> None:
        super().__init__(program, gguf, log, threads=THREADS, slots=SLOTS, context_tokens=CONTEXT_TOKENS, flags=flags)
        self._port = int(self.url.rsplit(":", 1)[1])

    def run(self, prompts: Prompts, max_tokens: int, *, ignore_eos: bool = True) -> list[Stream]:
        return asyncio.run(self._all(prompts, max_tokens, ignore_eos))

    async def _all(self, prompts: Prompts, max_tokens: int, ignore_eos: bool) -> list[Stream]:
        bodies = [self._body(prompt, max_tokens, ignore_eos) for prompt in prompts]
        started = time.perf_counter()
        return await asyncio.gather(*(self._one(body, started) for body in bodies))

    def _body(self, prompt: Sequence[int], max_tokens: int, ignore_eos: bool) -> bytes:
        """Greedy by its one sampler that is needed for it: the others would cost it time."""
        asked = {"prompt": list(prompt), "n_predict": max_tokens, "ignore_eos": ignore_eos, "stream": True}
        return json.dumps(asked | {"samplers": ["top_k"], "top_k": 1}).encode()

    async def _one(self, body: bytes, started: float) -> Stream:
        """Bytes are kept as they come and read after the end: the client shares the cores with the server."""
        head = (
            f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(head.encode() + body)
        received, times = bytearray(), list[tuple[int, float]]()
        while block := await reader.read(65536):
            received += block
            times.append((len(received), time.perf_counter() - started))
        writer.close()
        return read_events(bytes(received), times)


def read_events(received: bytes, times: Sequence[tuple[int, float]]) -> Stream:
    """The stream in ``received``, of which the first ``length`` bytes were there after ``seconds``, for each pair.

    Raises:
        RuntimeError: the answer was no stream that ended.
    """
    stream, last, at = Stream(), dict[str, Any](), 0
    for event in _EVENT.finditer(received):
        while times[at][0] < event.end():
            at += 1
        last = json.loads(event[1])
        tokens = last["tokens"]
        stream.token_ids += tokens
        stream.arrivals += [times[at][1]] * len(tokens)
    if not last.get("stop"):
        raise RuntimeError(received[:2000].decode(errors="replace"))
    timings = last["timings"]
    stream.own_prefill_s, stream.own_decode_s = timings["prompt_ms"] / 1e3, timings["predicted_ms"] / 1e3
    return stream
