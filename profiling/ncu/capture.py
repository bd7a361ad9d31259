"""A server under ``ncu``, and questions for it until the kernels that were asked for have been measured.

Kernel replay runs every kernel several times, alone, with flushed caches: what it says of a kernel holds for the
kernel, and what it does to the time of an answer is nothing like serving. That is why no scenario is sent here, only
enough requests to keep the engine decoding.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipstream.loadtest.comparison.serving import FREE_PORTS, SERVE, end_with_parent
from slipstream.profiling.ncu.faults import NothingCaptured, ToolFailed, explained
from slipstream.profiling.ncu.load import Load
from slipstream.profiling.spans import DOMAIN

Watch = Callable[[int, str], None]
"""Told how many launches have been measured, and what is being done."""
Range = Literal["decode", "prefill", "step", "none"]
REPORT = "report.ncu-rep"
LOG = "ncu.log"
WRITES_WITHIN_S = 120.0
"""That the tool is given, once it is interrupted, to write what it has."""
_PUSHED: frozenset[str] = frozenset({"step"})
"""Ranges of one thread, which the tool's filter writes with a slash; the others may cross threads."""
_MEASURED = '==PROF== Profiling "'
_ENDS_WITHIN_S = 30.0
_LOOKS_EVERY_S = 0.3
_LAST_CHARACTERS = 600


@dataclass(frozen=True)
class Plan:
    """What to capture: ``launches`` of kernels, after ``skip`` of them, inside one range of the server's.

    ``streams`` questions are answered at once, which is the batch of a decode step. After ``max_time_s`` it ends with
    what there is.
    """

    range: Range = "decode"
    launches: int = 400
    skip: int = 400
    streams: int = 8
    max_time_s: float = 1800.0


def options(plan: Plan, report: str, tensor: Sequence[str]) -> list[str]:
    """Of ``ncu``, up to the program that it starts.

    The clocks are left as they are (the tool would lock them to their base), so that the roofs are those of serving.
    """
    pushed = "/" if plan.range in _PUSHED else ""
    within = [] if plan.range == "none" else ["--nvtx", "--nvtx-include", f"{DOMAIN}@{plan.range}{pushed}"]
    return [
        *("--target-processes", "all", *within),
        *("--launch-skip", str(plan.skip), "--launch-count", str(plan.launches), "--kill", "yes"),
        *("--set", "roofline", *(["--metrics", ",".join(tensor)] if tensor else [])),
        *("--replay-mode", "kernel", "--clock-control", "none", "--apply-rules", "no"),
        *("--force-overwrite", "--export", report),
    ]


def server(bundle: str | None) -> tuple[str, ...]:
    """The command line of the server that is measured."""
    return (*SERVE, *(("--bundle", bundle) if bundle else ()))


def capture(command: Sequence[str], folder: Path, plan: Plan, home: Path, watch: Watch) -> Path:
    """Run ``command`` (``ncu`` and the server) until it ends by itself, or for ``max_time_s``; returns the report.

    Ctrl-C ends it early, and what was measured is kept.

    Raises:
        CountersForbidden, ToolFailed, NothingCaptured: there is no report, and why.
        QuestionsRefused: the server answers none.
    """
    log, deadline = folder / LOG, time.monotonic() + plan.max_time_s
    watch(0, "starting the server")
    with _running(command, log, home) as process:
        url = _ready(process, log, deadline)
        with Load(url, plan.streams) as load, suppress(KeyboardInterrupt):
            while process.poll() is None and time.monotonic() < deadline:
                measured = _words(log).count(_MEASURED)
                watch(measured, f"{load.answered} questions answered")
                load.check()
                if measured >= plan.launches:  # a process that the tool does not end would go on
                    deadline = min(deadline, time.monotonic() + _ENDS_WITHIN_S)
                time.sleep(_LOOKS_EVERY_S)
        watch(plan.launches, "writing the report")
    report = folder / REPORT
    if not report.is_file():
        said = _words(log)
        raise explained(said) or NothingCaptured(f"no kernel was measured: {said[-_LAST_CHARACTERS:]}", f"see {log}")
    return report


@contextmanager
def _running(command: Sequence[str], log: Path, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env={**os.environ, "SLIPSTREAM_HOME": str(home), **FREE_PORTS},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which ends the tool in its turn
            preexec_fn=end_with_parent,
        )
    try:
        yield process
    finally:
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # the tool writes what it has
                with suppress(subprocess.TimeoutExpired):
                    process.wait(WRITES_WITHIN_S)
        finally:  # a second Ctrl-C waits no longer, and leaves nothing running either
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the tool ends the server it started, not what that started
            process.wait()


def _ready(process: "subprocess.Popen[bytes]", log: Path, deadline: float) -> str:
    """The address of the server, once it says that it is ready."""
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        for line in _words(log).splitlines():
            with suppress(ValueError, KeyError, TypeError):
                return str(json.loads(line)["ready"]["url"])
        if has_ended:
            said = _words(log)
            raise explained(said) or ToolFailed(
                f"the server ended before it was ready: {said[-_LAST_CHARACTERS:] or 'it said nothing'}", f"see {log}"
            )
        time.sleep(0.2)
    raise ToolFailed("the server was not ready in time", f"see {log}, or give a longer --max-time")


def _words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()


__all__ = ["LOG", "REPORT", "WRITES_WITHIN_S", "Plan", "Range", "Watch", "capture", "options", "server"]
