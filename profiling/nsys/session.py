"""A session of Nsight Systems: what its launcher starts can be captured from `start` to `stop`, any number of times.

nsys gives no way into a process that it did not start: it injects its library when the process begins. A server that
runs already can be captured only if it was begun with ``nsys launch --session-new=NAME``.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from slipstream import InputError
from slipstream.profiling.nsys.tool import Nsys, NsysFailed

CALL_NS = 10_000
"""Calls of the system's libraries that are shorter are not recorded: they are many, and no wait."""

_AGENT_ENDS_WITHIN_S = 10.0
_DRIVER = Path("/dev/nvidiactl")


class NoSuchSession(InputError):
    """nsys knows no session of this name."""


class Session:
    """One, by its name.

    Args:
        name: a new one for this process if not given.
    """

    def __init__(self, nsys: Nsys, name: str = "") -> None:
        self._nsys = nsys
        self.name = name or f"slipstream-{os.getpid()}"

    @property
    def launcher(self) -> tuple[str, ...]:
        """The command that begins the session with the program named after it, and ends when that program does."""
        return (
            str(self._nsys.path),
            "launch",
            f"--session-new={self.name}",
            *trace_options(),
            f"--osrt-threshold={CALL_NS}",
            "--wait=primary",
        )

    def start(self, capture: Path) -> None:
        """Begin to capture into ``capture`` (a path without its ending).

        Raises:
            NsysFailed: it did not begin.
        """
        output = str(capture.absolute()).replace("%", "%%")  # nsys puts an environment variable, a host or a pid there
        self._nsys.run(
            "start",
            f"--session={self.name}",
            "--sample=none",
            "--cpuctxsw=none",
            "--backtrace=none",
            "--force-overwrite=true",
            f"--output={output}",
            within_s=60,
        )

    def stop(self) -> None:
        """Write what was captured; the processes go on.

        Raises:
            NsysFailed: it was not written.
        """
        self._nsys.run("stop", f"--session={self.name}")

    def close(self) -> None:
        """End the session, and with it whatever of its launcher's processes is left."""
        try:
            with suppress(NsysFailed):  # it ended with its last process
                self._nsys.run("shutdown", f"--session={self.name}", "--kill=sigkill", within_s=60)
        finally:
            ended(self._agents(), _AGENT_ENDS_WITHIN_S)

    def _agents(self) -> list[psutil.Process]:
        """What holds the session, parted from who began it; it ends a moment after its session."""
        words = {"--start-agent", f"--session-name={self.name}"}
        return [one for one in psutil.process_iter(["cmdline"]) if words <= set(one.info["cmdline"] or ())]

    def check(self) -> None:
        """See that somebody launched it.

        Raises:
            NoSuchSession: nobody did; names those that there are.
        """
        listed = self._nsys.run("sessions", "list", within_s=60)
        names = [
            row[-1].strip()
            for line in listed.splitlines()[1:]
            if len(row := re.split(r"\s{1,}", line.strip(), maxsplit=4)) == 5
        ]
        if self.name not in names:
            there = ", ".join(names) or "none"
            raise NoSuchSession(
                f"nsys has no session {self.name!r}; there are: {there}",
                f"begin the server in one: {launch_hint(self.name)}",
            )


def launch_hint(name: str = "slipstream") -> str:
    """What starts a server that can be captured later."""
    return f"nsys launch --session-new={name} {' '.join(trace_options())} slipstream serve"


def ended(processes: Sequence[psutil.Process], within_s: float) -> None:
    """Wait until all have ended, and kill what has not by then or by a Ctrl-C.

    One whose parent has gone may stay in the system's table although it is dead. psutil knows a process by its start,
    too, so never another one is killed that got the number of an old one.
    """
    deadline = time.monotonic() + within_s
    try:
        while any(map(_runs, processes)) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for one in processes:
            with suppress(psutil.Error):
                one.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def trace_options() -> tuple[str, ...]:
    """What nsys records: NVTX ranges and calls of the system's libraries, and CUDA where there is a driver.

    With drivers from CUDA 11.7 on, nsys records a launch of a CUDA graph as a whole unless told otherwise, and an
    engine that decodes by graphs would have no kernels.
    """
    if _DRIVER.exists():
        return "--trace=nvtx,osrt,cuda", "--cuda-graph-trace=node"
    return ("--trace=nvtx,osrt",)


__all__ = ["CALL_NS", "NoSuchSession", "Session", "ended", "launch_hint", "trace_options"]
