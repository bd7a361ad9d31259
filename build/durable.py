"""Folders that appear whole or not at all: made aside, synced to the disk, renamed into place.

A `Shelf` is a folder of such folders. Beside them it has ``.aside/`` (what is being made) and ``.locks/`` (one file for
each key, locked while somebody makes it). A kernel drops the locks of a process that dies, so whatever lies aside under
a key that can be locked belongs to nobody any more.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slipstream import EnvironmentFault, SlipstreamError
from slipstream.ensemble.disk import sync

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CRAMPED_BYTES = 1 << 20  # less than any library writes at once when a stage ends
_FULL_MESSAGES = tuple(os.strerror(number) for number in _FULL)


class DiskFull(EnvironmentFault):
    """The file system cannot take what a stage would write."""

    def __init__(self, folder: Path, needed_bytes: int | None, doing: str) -> None:
        free = megabytes(free_bytes(folder))
        needed = megabytes(needed_bytes or 0)
        needed_text = f"about {needed} MB" if needed > free else f"more than {free} MB"
        super().__init__(
            f"no room in {folder}: {doing} needs {needed_text}, {free} MB are free",
            f"free {needed_text} there (old folders in cache/stages and bundles may go), "
            "or set SLIPSTREAM_HOME to a larger disk; then run the same command again",
        )


class Shelf:
    """A folder of immutable folders, each under its key; several processes may use one shelf at once."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def path(self, key: str) -> Path:
        return self.home / key

    @contextmanager
    def locked(self, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the only one to make ``key``; calls ``waiting`` once when somebody else is at it."""
        with self._lock_file(key) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def put(self, key: str, fill: Callable[[Path], None], needed_bytes: int, doing: str) -> Path:
        """Let ``fill`` write into an empty folder and make that ``key``, in place of what had the name before.

        The caller holds the lock. When ``fill`` raises, nothing of it is left.

        Raises:
            DiskFull: before ``fill`` if ``needed_bytes`` are not free, or whenever the disk is full after all.
        """
        with explaining_full_disk(self.home, doing, needed_bytes):
            (self.home / ".aside").mkdir(parents=True, exist_ok=True)
            if free_bytes(self.home) < needed_bytes:
                raise DiskFull(self.home, needed_bytes, doing)
            aside = Path(tempfile.mkdtemp(dir=self.home / ".aside", prefix=f"{key}."))
            try:
                aside.chmod(0o755)
                fill(aside)
                make_durable(aside)
                self.discard(key)
                aside.rename(self.path(key))
            except BaseException as error:
                # OpenVINO says "iostream error" of a full disk; the disk itself says more, until it is cleaned up.
                cramped = not isinstance(error, SlipstreamError) and free_bytes(self.home) < _CRAMPED_BYTES
                shutil.rmtree(aside, ignore_errors=True)
                if cramped and isinstance(error, Exception):
                    raise DiskFull(self.home, needed_bytes, doing) from error
                raise
            sync(self.home)
        return self.path(key)

    def put_file(self, key: str, name: str, text: str) -> None:
        """Write the file ``name`` of the finished folder ``key``, in place of an older one: whole or not at all."""
        with self.locked(key), explaining_full_disk(self.home, f"{key}/{name}"):
            (self.home / ".aside").mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(dir=self.home / ".aside", prefix=f"{key}."))
            try:
                (aside / name).write_text(text, encoding="utf-8")
                sync(aside / name)
                (aside / name).replace(self.path(key) / name)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Remove ``key``: at once for whoever looks, then from the disk."""
        if os.path.lexists(self.path(key)):  # a link that leads nowhere as well
            (self.home / ".aside").mkdir(parents=True, exist_ok=True)
            doomed = Path(tempfile.mkdtemp(dir=self.home / ".aside", prefix=f"{key}."))
            self.path(key).rename(doomed / "discarded")
            shutil.rmtree(doomed, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes left aside; what a living one is making stays."""
        for leftover in (self.home / ".aside").glob("*"):
            with self._lock_file(leftover.name.partition(".")[0]) as descriptor:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _lock_file(self, key: str) -> Iterator[int]:
        (self.home / ".locks").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.home / ".locks" / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def make_durable(folder: Path) -> None:
    """Make every file below ``folder`` read-only and have it and the folders on the disk."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o444)
        sync(path)
    sync(folder)


@contextmanager
def explaining_full_disk(folder: Path, doing: str, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn whatever is raised because the disk is full into a `DiskFull` that names ``folder``."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or not says_disk_full(error):
            raise
        raise DiskFull(folder, needed_bytes, doing) from error


def says_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind ``error``: libraries in C++ and Rust give the system's words and no errno."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(message in str(error) for message in _FULL_MESSAGES):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_bytes(folder: Path) -> int:
    """What may be written below ``folder``, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def megabytes(size_bytes: int) -> int:
    return -(-size_bytes // 1_000_000)


__all__ = ["DiskFull", "Shelf", "explaining_full_disk", "free_bytes", "make_durable", "megabytes", "says_disk_full"]
