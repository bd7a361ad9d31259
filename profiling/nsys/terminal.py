"""A reading of a capture for people."""

from collections.abc import Iterator

from slipstream.profiling.nsys.results import Calls, Reading, Requests, SlowRequest

_OUTSIDE = "no stage"
_SHOWN = 3


def lines(reading: Reading) -> Iterator[str]:
    """Stages, what they waited for, what they put on a GPU, and what makes the slowest requests slow."""
    requests = reading.requests
    answered = "" if requests.answered is None else f"; {requests.answered} were answered meanwhile"
    yield (
        f"{reading.window_ms / 1e3:.1f} s captured by nsys {reading.nsys}: {reading.processes} processes, "
        f"{requests.whole} whole requests of {requests.seen}{answered}"
    )
    yield ""
    yield from _stages(reading)
    yield from _calls(reading)
    yield from _gpu(reading)
    yield from _slowest(reading.requests)
    for note in reading.notes:
        yield f"note: {note}"


def _stages(reading: Reading) -> Iterator[str]:
    yield f"{'ms':14}{'ranges':>8}{'requests':>10}{'p50':>10}{'p90':>10}{'p95':>10}{'p99':>10}{'max':>10}{'total':>12}"
    for one in reading.stages:
        requests = "" if one.requests is None else f"{one.requests:,}"
        percentiles = (one.p50_ms, one.p90_ms, one.p95_ms, one.p99_ms, one.max_ms)
        yield (
            f"{one.stage:14}{one.ranges:8,}{requests:>10}"
            + "".join(f"{value:10,.2f}" for value in percentiles)
            + f"{one.total_ms:12,.1f}"
        )


def _calls(reading: Reading) -> Iterator[str]:
    if not reading.calls:
        return
    yield ""
    yield "waits inside, by stage (calls of the system's libraries on the stage's own thread)"
    for stage in dict.fromkeys(one.stage for one in reading.calls):
        found = [one for one in reading.calls if one.stage == stage][:_SHOWN]
        yield f"  {stage:12}" + "; ".join(_call(one) for one in found)


def _call(one: Calls) -> str:
    return f"{one.function} {one.total_ms:,.1f} ms in {one.times:,} ({one.kind})"


def _gpu(reading: Reading) -> Iterator[str]:
    if not reading.gpu:
        return
    yield ""
    yield "on the GPU, by stage"
    for one in reading.gpu:
        moved = "" if one.moved_bytes is None else f", {one.moved_bytes / 1e6:,.1f} MB"
        yield f"  {one.stage or _OUTSIDE:12}{one.kind:7}{one.name}: {one.total_ms:,.2f} ms in {one.times:,}{moved}"


def _slowest(requests: Requests) -> Iterator[str]:
    if not requests.slowest or requests.p50_ms is None:
        return
    count = -(-requests.whole // 100)
    yield ""
    yield (
        f"the slowest {count} of {requests.whole} whole requests, up to "
        f"{requests.slowest[0].took_ms:,.1f} ms (median {requests.p50_ms:,.1f} ms): critical path by stage, ms"
    )
    yield f"  {'':12}{'usual':>10}{'slowest':>10}{'more':>10}"
    for one in requests.excess:
        more = one.slowest_ms - one.usual_ms
        yield f"  {one.stage or _OUTSIDE:12}{one.usual_ms:10,.1f}{one.slowest_ms:10,.1f}{more:+10,.1f}"
    yield "  the slowest: " + _path(requests.slowest[0])


def _path(request: SlowRequest) -> str:
    return " → ".join(
        f"{part.stage or _OUTSIDE} {part.length_ms:,.1f}"
        + (f" ({part.calls[0].function} {part.calls[0].total_ms:,.1f})" if part.calls else "")
        for part in request.path
    )


__all__ = ["lines"]
