"""A running appliance to measure, and a client that costs next to nothing on the cores it shares with the server."""

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from slipstream.ensemble.triton.claims import ports_or_free
from tests.integration.conftest import wait_ready


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    process: subprocess.Popen[str]
    ready_s: float
    """From the start of the command to the first 200 of ``/health/ready``."""

    def tree(self) -> list[psutil.Process]:
        """The server process and every child."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def serve(log: Path, bundle: str | None = None) -> Iterator[Server]:
    """``slipstream serve`` on free ports with the home in force; stopped at the end."""
    ports = ports_or_free([0] * 4)
    names = ("PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    env = {**os.environ, **{f"SLIPSTREAM_{name}": str(port) for name, port in zip(names, ports, strict=True)}}
    command = [sys.executable, "-m", "slipstream.cli", "serve", *(["--bundle", bundle] if bundle else [])]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        started = time.perf_counter()
        # Ctrl-C is the benchmark's, which stops what it started itself.
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, text=True, start_new_session=True)
        try:
            wait_ready(f"http://127.0.0.1:{ports[0]}", process, log)
            yield Server("127.0.0.1", ports[0], process, time.perf_counter() - started)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


@dataclass(frozen=True)
class Answer:
    ttft_s: float
    end_to_end_s: float
    completion_tokens: int
    prompt_tokens: int


_USAGE = re.compile(rb'"usage":\{[^{}]*?\}')
_CONTENT = re.compile(rb'"content":"[^"]')


async def stream_chat(server: Server, body: dict[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    """One streamed completion. Bytes are kept as they come and read after the end, so timing is all that is done live.

    Raises:
        RuntimeError: the answer was not a 200 or carried no usage.
    """
    payload = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n{more}Connection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(server.host, server.port)
    sent = time.perf_counter()
    writer.write(head.encode() + payload)
    received = bytearray()
    first: float | None = None
    while block := await reader.read(65536):
        if first is None and _CONTENT.search(block):
            first = time.perf_counter()
        received += block
    end = time.perf_counter()
    writer.close()
    usages = _USAGE.findall(received)
    if b" 200 " not in received[:20] or not usages or first is None:
        raise RuntimeError(bytes(received[:2000]).decode(errors="replace"))
    usage = json.loads(usages[-1].split(b":", 1)[1])
    return Answer(first - sent, end - sent, usage["completion_tokens"], usage["prompt_tokens"])


async def closed_loop(
    server: Server, bodies: list[dict[str, object]], concurrency: int, headers: Mapping[str, str] | None = None
) -> tuple[list[Answer], float]:
    """All of ``bodies`` with ``concurrency`` in flight; the answers and the wall time in seconds."""
    queue = iter(bodies)
    answers: list[Answer] = []

    async def worker() -> None:
        for body in queue:
            answer = await stream_chat(server, body, headers)
            answers.append(answer)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answers, time.perf_counter() - started


def spread(values: list[float], digits: int = 1) -> str:
    """Median with minimum and maximum."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def machine() -> str:
    """The kind of machine, for the README."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown CPU",
    )
    return f"{model}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, no GPU"
