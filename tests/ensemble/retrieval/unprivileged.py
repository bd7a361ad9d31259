"""Doing something without root's way past permissions: tests run as root in containers and in CI."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_VERSION_3 = 0x20080522


def unprivileged(call: Callable[[], T]) -> T:
    """What ``call`` returns, made in a thread that gave up every capability.

    On Linux a thread has capabilities of its own, and threads that it starts inherit them: the rest of this process
    keeps what it has. Root's own files stay its own, so that modes decide, and the tests' folder can be reached.
    """
    with ThreadPoolExecutor(1, initializer=_drop_capabilities) as thread:
        return thread.submit(call).result()


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
