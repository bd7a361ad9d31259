"""Freed memory kept for the next tensor, instead of given back to the kernel and zeroed again."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = 2**31 - 1
# Where glibc's own, growing thresholds end; once any of them was set they no longer grow by themselves.
_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """While inside, malloc maps nothing anew that it has already; afterwards what is free goes back to the kernel.

    A layer's tensors are of some hundred megabytes and live for milliseconds. Mapped and unmapped each time, every page
    of them is zeroed by the kernel before its first use: a tenth of the processor time of rounding. Does nothing where
    the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


__all__ = ["keeping_freed_memory"]
