"""A server inside a session of Nsight Systems, for one capture."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from slipstream.loadtest.comparison.serving import FREE_PORTS, SERVE, ServerFailed, await_ready, end_with_parent
from slipstream.loadtest.credentials import API_KEY
from slipstream.profiling.nsys.session import Session, ended
from slipstream.settings import Settings

_STOPPED_WITHIN_S = 30.0
_ATTEMPTS = 3
_FAULT = "QuadD"
"""In the exception of nsys 2022.4 that cannot begin: a race of its own for a semaphore, once in some 60 times when all
cores are busy."""


@contextmanager
def served_in(
    session: Session, settings: Settings, log: Path, *, bundle: str = "", needs_collection: bool
) -> Iterator[str]:
    """The address of a server of the active bundle (or of ``bundle``) that ``session`` can capture; stopped afterwards.

    Args:
        log: where its standard error goes.
        needs_collection: whether it is no use without a collection to answer from.

    Raises:
        ServerFailed: it ended, was not ready in time, or cannot answer from its collection.
    """
    command = [*session.launcher, *SERVE, *(["--bundle", bundle] if bundle else [])]
    process, ready = _begin(command, session, settings, log)
    try:
        if needs_collection and ready.get("problem"):
            raise ServerFailed(
                f"the server is ready and cannot answer: {ready['problem']}", "slipstream index PATH --collection NAME"
            )
        yield str(ready["url"])
    finally:
        _stop(process, session)


def _begin(
    command: list[str], session: Session, settings: Settings, log: Path
) -> "tuple[subprocess.Popen[bytes], dict[str, Any]]":
    """The launcher and what its server says when it is ready; tried again where nsys failed and not the server."""
    for attempt in range(1, _ATTEMPTS + 1):
        ours = {name: value for name, value in os.environ.items() if name != API_KEY}  # the load's, not the server's
        with log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(
                command,
                env={**ours, "SLIPSTREAM_HOME": str(settings.root), **FREE_PORTS},
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is for this process, which stops the server in its turn
                preexec_fn=end_with_parent,
            )
        try:
            return process, await_ready(process, "the server under nsys", log)
        except BaseException as error:
            _stop(process, session)
            if attempt == _ATTEMPTS or not (isinstance(error, ServerFailed) and _FAULT in error.message):
                raise
    raise AssertionError("the last attempt returns or raises")


def _stop(process: "subprocess.Popen[bytes]", session: Session) -> None:
    """End the server as its user would, then the session; no process of theirs is left, and no other is touched.

    Ctrl-C ends the waiting, and not what follows it.
    """
    started = _below(process.pid)
    with ExitStack() as afterwards:
        afterwards.callback(_bury, process)
        afterwards.callback(session.close)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # nsys passes it on and ends at once
        ended(started, _STOPPED_WITHIN_S)


def _bury(process: "subprocess.Popen[bytes]") -> None:
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPPED_WITHIN_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


__all__ = ["served_in"]
