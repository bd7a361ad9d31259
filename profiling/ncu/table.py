"""The kernels of a capture, for a terminal."""

from collections.abc import Iterator, Sequence

from slipstream.profiling.ncu.kernels import Kernel, missing

_HEAD = (
    f"{'time':>6} {'calls':>6} {'mean us':>9} {'GB/s':>8} {'of peak':>8} {'TFLOP/s':>8} {'of peak':>8} {'FLOP/B':>7}  "
    f"{'bound':<8} {'of roof':>7}  kernel"
)
_NOTE = (
    "Each kernel ran several times, alone and with flushed caches: compare it with its roof, and take the times of a "
    "running server from `slipstream profile nsys`."
)


def kernel_lines(kernels: Sequence[Kernel], top: int) -> Iterator[str]:
    """The ``top`` kernels by time, what the others add up to, and what could not be measured."""
    seconds, calls = sum(kernel.seconds for kernel in kernels), sum(kernel.calls for kernel in kernels)
    yield f"{calls} launches of {len(kernels)} kernels, {1e3 * seconds:.3f} ms in all"
    yield ""
    yield _HEAD
    yield from (_line(kernel) for kernel in kernels[:top])
    rest = kernels[top:]
    if rest:
        share, launches = sum(kernel.time_share for kernel in rest), sum(kernel.calls for kernel in rest)
        yield f"{share:>6.1%} {launches:>6} in {len(rest)} other kernels"
    yield ""
    yield from _bounds(kernels)
    yield from (f"not measured: {what}" for what in missing(kernels))
    yield _NOTE


def _bounds(kernels: Sequence[Kernel]) -> Iterator[str]:
    """How much of the time is spent at which bound."""
    shares: dict[str, float] = {}
    for kernel in kernels:
        shares[kernel.bound] = shares.get(kernel.bound, 0.0) + kernel.time_share
    ranked = sorted(shares.items(), key=lambda one: -one[1])
    yield "of the time: " + ", ".join(f"{share:.1%} {_BOUNDS[bound]}" for bound, share in ranked)


_BOUNDS = {
    "memory": "memory bound (a larger batch or fewer bits a weight helps)",
    "compute": "compute bound",
    "latency": "at neither roof (too small, or waiting)",
    "unknown": "unknown",
}


def _line(kernel: Kernel) -> str:
    memory, rate = kernel.memory, kernel.operations_per_second
    cells = (
        f"{kernel.time_share:>6.1%}",
        f"{kernel.calls:>6}",
        f"{1e6 * kernel.seconds / kernel.calls:>9.2f}",
        _number(None if memory is None else memory.per_second / 1e9, 8, "{:.1f}"),
        _number(None if memory is None else memory.share, 8, "{:.1%}"),
        _number(None if rate is None else rate / 1e12, 8, "{:.3f}"),
        _number(kernel.compute_share, 8, "{:.1%}"),
        _number(kernel.intensity, 7, "{:.2f}"),
        f" {kernel.bound:<8}",
        _number(kernel.roof_share, 7, "{:.1%}"),
        f" {kernel.name}",
    )
    return " ".join(cells)


def _number(value: float | None, width: int, written: str) -> str:
    return f"{'-' if value is None else written.format(value):>{width}}"


__all__ = ["kernel_lines"]
