"""The bytes of files, from git's objects."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from slipstream.ensemble.retrieval.freshness.command import command, environment


class Blobs:
    """Reads objects through one ``git cat-file --batch``. Not for several threads at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, oid: str) -> bytes:
        """
        Raises:
            OSError: the object is missing (a partial clone, a collected one), or git goes away again and again.
        """
        try:
            return self._ask(oid)
        except _WentAway:
            self.close()
            return self._ask(oid)

    def _ask(self, oid: str) -> bytes:
        if self._process is None:
            self._process = subprocess.Popen(
                command(self._folder, "cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        asked, told = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        with suppress(BrokenPipeError):  # reading says so too
            asked.write(oid.encode() + b"\n")
            asked.flush()
        return _answer(told, oid)

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            with suppress(BrokenPipeError):  # of what was asked and not heard
                cast("IO[bytes]", process.stdin).close()
            cast("IO[bytes]", process.stdout).close()
            process.wait()


class _WentAway(OSError):
    """The process ended before it had answered."""


def _answer(told: IO[bytes], oid: str) -> bytes:
    """One answer of ``cat-file --batch``: ``<oid> blob <size>``, the bytes, a line's end."""
    header = told.readline().split()
    if not header:
        raise _WentAway(f"git went away before it sent {oid}")
    if len(header) != 3 or not header[2].isdigit():
        raise OSError(f"git has no object {oid}")
    size = int(header[2])
    data = told.read(size + 1)
    if len(data) != size + 1:
        raise _WentAway(f"git went away while it sent {oid}")
    return data[:-1]


__all__ = ["Blobs"]
