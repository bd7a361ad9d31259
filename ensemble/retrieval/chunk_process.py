"""The process that cuts files as its parent sees it: restarted when a file brings it down or takes too long.

Cutting beside the embedder costs an index run nothing, and the parent's interpreter is free for the rest meanwhile.
"""

import json
import selectors
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import BinaryIO, Self, cast

import structlog

from slipstream import EnvironmentFault
from slipstream.ensemble.retrieval.chunk_worker import READY, read_frame, unpacked, write_frame
from slipstream.ensemble.retrieval.chunker import Cut, cut_file
from slipstream.ensemble.retrieval.pages import Caveat

log = structlog.get_logger(__name__)

CUT_S, CUT_S_PER_MB = 10.0, 6.0
"""Processor time for one file, several times what its parser may take (`languages.MAX_PARSE_S`)."""
_WALL = 10  # times as long on the clock, for a machine that is busy with other things, or a process that is stopped
_LOOK_S = 0.1
_END_S = 2.0


class ChunkingUnavailable(EnvironmentFault):
    """The process that cuts files does not start."""


class _Late(Exception):
    """The time for a file is over."""


class ChunkProcess:
    """Cuts files as `chunker.cut_file` does, one call at a time, whatever they do to a grammar.

    A file whose cutting crashes or does not end comes back as plain windows, with ``parse_crash`` or
    ``parse_timeout`` among its caveats. The process starts with the first file, and ends with this object's block.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def cut(self, path: str, data: bytes, repo: str) -> Cut:
        """
        Raises:
            ChunkingUnavailable: there is no process to be had.
        """
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        limit_s = CUT_S + CUT_S_PER_MB * len(data) / 1e6
        caveat: Caveat = "parse_crash"
        try:
            with suppress(BrokenPipeError):  # it is gone, and reading says so too
                write_frame(_pipe(process.stdin), json.dumps([path, repo]).encode(), data)
            _await_answer(process, limit_s)
            if (answer := read_frame(_pipe(process.stdout))) is not None:
                return unpacked(*answer)
        except _Late:
            caveat = "parse_timeout"
            process.kill()
        log.warning(f"index.{caveat}", path=path, bytes=len(data), exit_code=process.wait())
        self._end()
        blind = cut_file(path, data, repo, parse=False)
        return Cut(blind.chunks, [*blind.caveats, caveat])

    def _start(self) -> "subprocess.Popen[bytes]":
        self._end()
        # -P: the folder that the command was called in holds strangers' modules.
        command = [_interpreter(), "-P", "-m", "slipstream.ensemble.retrieval.chunk_worker"]
        try:
            self._process = process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise ChunkingUnavailable(f"{command[0]} does not start: {error}", "free memory and try again") from error
        if read_frame(_pipe(process.stdout)) != (READY, b""):
            code = process.wait()
            self._end()
            raise ChunkingUnavailable(
                f"{' '.join(command)} ended with exit code {code}", "see what it wrote to standard error"
            )
        return process

    def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        with suppress(BrokenPipeError):
            _pipe(process.stdin).close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _pipe(process.stdout).close()


def _await_answer(process: "subprocess.Popen[bytes]", limit_s: float) -> None:
    """Until ``process`` writes or ends.

    Raises:
        _Late: it used ``limit_s`` of a processor, or a multiple of that went by.
    """
    import psutil

    started, used = monotonic(), 0.0
    with selectors.DefaultSelector() as selector, suppress(psutil.Error):  # gone by now: reading says so
        selector.register(_pipe(process.stdout), selectors.EVENT_READ)
        while not selector.select(_LOOK_S):
            times = psutil.Process(process.pid).cpu_times()
            used = used or times.user + times.system
            if times.user + times.system - used > limit_s or monotonic() - started > _WALL * limit_s:
                raise _Late


def _pipe(stream: "object | None") -> BinaryIO:
    return cast("BinaryIO", stream)


def _interpreter() -> str:
    """The Python of this environment. Inside Triton ``sys.executable`` can name the program that embeds Python."""
    beside = Path(sys.prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(beside) if beside.is_file() else sys.executable


__all__ = ["ChunkProcess", "ChunkingUnavailable"]
