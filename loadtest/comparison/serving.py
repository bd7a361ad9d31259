"""A bundle served for one run, by the command that its users type, in a process of its own.

``slipstream serve --bundle`` leaves the active bundle as it is. It runs on the user's own home, so that its lock keeps
a second server of that home, which would disturb what is measured, from running beside it.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from slipstream import EnvironmentFault
from slipstream.loadtest.comparison.golden import ask
from slipstream.loadtest.comparison.sides import Side
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.planned import Planned
from slipstream.settings import Settings

READY_WITHIN_S = 240.0
_STOPPED_WITHIN_S = 20.0
_LAST_CHARACTERS = 1500
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ServerFailed(EnvironmentFault):
    """A bundle could not be served; the server's own words are in the message."""


@contextmanager
def served(side: Side, settings: Settings, folder: Path, *, needs_collection: bool) -> Iterator[str]:
    """The address of a server of ``side``, ready; a bundle's is started now and stopped afterwards.

    Args:
        folder: of the run; ``serve.log`` is written there.
        needs_collection: whether it is no use without a collection to answer from.

    Raises:
        ServerFailed: it ended, was not ready in time, or cannot answer from its collection.
    """
    if side.url:
        yield side.url
        return
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [*SERVE, "--bundle", side.bundle],
            env={**os.environ, "SLIPSTREAM_HOME": str(settings.root), **FREE_PORTS},
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,  # Ctrl-C is for this process, which stops the server in its turn
            preexec_fn=end_with_parent,
        )
    try:
        ready = await_ready(process, f"{side.letter} ({side.name})", log)
        if needs_collection and ready.get("problem"):
            raise ServerFailed(f"{side.letter} ({side.name}) is ready and cannot answer: {ready['problem']}", _INDEX)
        yield str(ready["url"])
    finally:
        _stop(process)


SERVE = (sys.executable, "-m", "slipstream.cli", "serve", "--host", "127.0.0.1", "--port", "0", "--json")
FREE_PORTS = {f"SLIPSTREAM_TRITON_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
_SEE = "see that slipstream loadtest smoke --url URL runs without errors, then compare again"
_INDEX = "slipstream index PATH --collection NAME, with the bundle's embedder"


def ask_once(url: str, scenario: Scenario, planned: Planned) -> None:
    """Ask one question of the load to come, before it: nothing is learnt from minutes of refusals.

    Raises:
        ServerFailed: it was not answered.
    """
    answer = ask(url, scenario, planned.body)
    if not answer.texts:
        reason = answer.error or answer.fault or "it has no content"
        raise ServerFailed(f"{url} does not answer a question: {reason}", _SEE)


def end_with_parent() -> None:
    """Have the kernel interrupt the server when this process is killed: nobody else would stop it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def await_ready(process: "subprocess.Popen[bytes]", name: str, log: Path) -> dict[str, Any]:
    """What the server says of itself when the first question can be answered.

    Args:
        name: of the server, in errors.
        log: where its standard error goes.

    Raises:
        ServerFailed: it ended, or was not ready in time.
    """
    deadline, pending = time.monotonic() + READY_WITHIN_S, b""
    output: IO[bytes] = process.stdout  # type: ignore[assignment]  # it was asked for
    while time.monotonic() < deadline:
        readable, _, _ = select.select([output], [], [], 0.5)
        block = os.read(output.fileno(), 65536) if readable else b""
        pending += block
        *lines, pending = pending.split(b"\n")
        for line in lines:
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and isinstance(said.get("ready"), dict):
                    ready: dict[str, Any] = said["ready"]
                    return ready
        if readable and not block:  # it closed its output
            process.wait(_STOPPED_WITHIN_S)
            message, remedy = _last_words(log)
            raise ServerFailed(f"{name} cannot be served: {message}", remedy or f"see {log}")
    raise ServerFailed(f"{name} was not ready within {READY_WITHIN_S:g} s", f"see {log}")


def _last_words(log: Path) -> tuple[str, str]:
    """The error that the server ended with, and what it says to do."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    with suppress(ValueError, LookupError, TypeError):
        error = json.loads(text.splitlines()[-1])["error"]
        return str(error["message"]), str(error["remedy"])
    return text[-_LAST_CHARACTERS:] or "it said nothing", ""


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """An orderly end; what hangs is killed with all its children."""
    output: IO[bytes] = process.stdout  # type: ignore[assignment]  # it was asked for
    with output:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


__all__ = [
    "FREE_PORTS",
    "READY_WITHIN_S",
    "SERVE",
    "ServerFailed",
    "ask_once",
    "await_ready",
    "end_with_parent",
    "served",
]
