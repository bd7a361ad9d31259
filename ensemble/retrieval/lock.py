"""Who may write, read or watch: one process at a time."""

import fcntl
import os
from pathlib import Path


class FileLock:
    """An exclusive lock that ends with the process, however it ends (``flock``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, create: bool = False) -> bool:
        """Take the lock if it is free. With ``create``, make the file first.

        Raises:
            FileNotFoundError: the file is not there, or was removed just now.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), self._path.stat()):
                raise FileNotFoundError(self._path)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
