"""What this host's CPU can do, measured in a few seconds on every core that this process may use.

Reading: libc's ``memchr`` searches what is not there, one thread per core, each its own share of the working set over
and over. It does nothing but load (its loop is the widest vector load the CPU has), and Python lets go of its lock for
it; sums and products of numpy over the same memory came out slower or alike. Memory is written first: untouched pages
are all one page of zeros.

Computing: single-precision products by numpy's BLAS and, where OpenVINO is installed, the products that an engine runs
(`slipstream.profiling.limit.products`). What is best of all counts.
"""

import ctypes
import math
import mmap
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from slipstream.profiling.limit.products import Product, blas_products, engine_products
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import Arithmetic

MIB = 2**20
_WRITTEN, _SOUGHT = 1, 2
_SHARE_OF_MEMORY = 8  # of what is available, at most


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: working sets from ``least_bytes`` on, each ``growth`` times the last, to ``most_bytes``.

    A round of reading reads ``round_bytes`` or one working set, whichever is more. Steps of ``growth`` keep a bound
    that is made with the next smaller working set tight.
    """

    least_bytes: int = 8 * MIB
    most_bytes: int = 512 * MIB
    growth: float = 2**0.25
    round_bytes: int = 96 * MIB
    rounds: int = 7
    engine: bool = True


def probe(effort: Effort = Effort(), told: Callable[[str], None] = lambda _: None) -> Roof:
    """Measure this host.

    Args:
        told: hears what is measured now.
    """
    told("memory bandwidth")
    readings = read_bandwidth(effort)
    told("compute")
    compute = best_products([*blas_products(), *(engine_products() if effort.engine else [])], effort.rounds)
    return Roof(cpu_name(), readings, compute)


def cpu_name() -> str:
    """The CPU as the kernel names it, with how many cores this process may use."""
    found = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), found)
    return f"{found}, {cores()} {'core' if cores() == 1 else 'cores'}"


def cpu_features() -> frozenset[str]:
    """What the CPU can, in the kernel's words; empty where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_bandwidth(effort: Effort) -> tuple[Reading, ...]:
    """Bytes read per second by all cores together, for each working set."""
    most = min(effort.most_bytes, max(effort.least_bytes, _available_bytes() // _SHARE_OF_MEMORY))
    steps = int(math.log(most / effort.least_bytes, effort.growth) + 1e-9)
    sizes = [int(effort.least_bytes * effort.growth**step) for step in range(steps + 1)]
    with mmap.mmap(-1, sizes[-1]) as memory, ThreadPoolExecutor(cores()) as threads:
        with suppress(AttributeError, OSError):  # fewer pages, fewer misses in finding them
            memory.madvise(mmap.MADV_HUGEPAGE)
        view = (ctypes.c_char * sizes[-1]).from_buffer(memory)
        try:
            ctypes.memset(view, _WRITTEN, sizes[-1])
            return tuple(_read(ctypes.addressof(view), size, effort, threads) for size in sizes)
        finally:
            del view  # memory that is still seen cannot be closed


def _read(address: int, size: int, effort: Effort, threads: ThreadPoolExecutor) -> Reading:
    share = size // cores()
    passes = max(1, effort.round_bytes // size)
    search = _memchr()

    def over_and_over(core: int) -> None:
        for _ in range(passes):
            search(address + core * share, _SOUGHT, share)

    def round_of_all() -> float:
        started = time.perf_counter()
        list(threads.map(over_and_over, range(cores())))
        return share * cores() * passes / (time.perf_counter() - started)

    round_of_all()  # caches that hold what the last working set left
    return Reading(size, Rate.of([round_of_all() for _ in range(effort.rounds)]))


def _memchr() -> Callable[[int, int, int], int | None]:
    function = ctypes.CDLL(None).memchr
    function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    function.restype = ctypes.c_void_p
    found: Callable[[int, int, int], int | None] = function
    return found


def _available_bytes() -> int:
    """What can be had without swapping, the page cache among it, which is most of a busy machine's memory."""
    return psutil.virtual_memory().available


def best_products(products: Sequence[Product], rounds: int) -> dict[Arithmetic, Rate]:
    """Operations per second by arithmetic, of the fastest product in each; ``fast`` may use any of them."""
    found: dict[Arithmetic, Rate] = {}
    for product in products:
        product.run()  # what is allocated and compiled first
        rate = Rate.of([_timed(product) for _ in range(rounds)])
        kinds: tuple[Arithmetic, ...] = ("fast", "f32") if product.arithmetic == "f32" else ("fast",)
        for kind in kinds:
            if kind not in found or rate.best > found[kind].best:
                found[kind] = rate
    return found


def _timed(product: Product) -> float:
    started = time.perf_counter()
    product.run()
    return product.operations / (time.perf_counter() - started)


__all__ = ["Effort", "best_products", "cores", "cpu_features", "cpu_name", "probe", "read_bandwidth"]
