"""Every slot of the engine is taken while its cache has room: requests wait for a slot, not for memory."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding

_ROOM = 0.8  # of the KV cache in use at most
_OFTEN = 0.2
_LEAST_LOOKS = 3
_OWNS = 0.3


def check(case: Case) -> Finding | None:
    """Needs the engine's gauges."""
    waiting = [look for look in case.gauges if look.waiting >= 1]
    first = case.until_first
    if first is None or len(waiting) < max(_LEAST_LOOKS, _OFTEN * len(case.gauges)):
        return None
    fullest = max(look.cache_usage_ratio for look in waiting)
    if fullest > _ROOM or first.tail.share("queue") < _OWNS:
        return None
    mean = sum(look.waiting for look in waiting) / len(waiting)
    return Finding(
        rule="slots",
        cause="More is asked than the engine's slots get through, so requests queue for a slot.",
        evidence=(
            f"generations were waiting in {len(waiting)} of {len(case.gauges)} looks, {mean:.1f} of them on average",
            f"{max(look.active for look in waiting):.0f} ran then, and the KV cache was {fullest:.0%} full at most",
            (
                f"queue is {first.tail.share('queue'):.0%} of the TTFT of the slowest 5% "
                f"({first.tail.stages['queue']:.0f} ms)"
            ),
        ),
        remedy="ask less of this machine, or make answers shorter (serving.max_output_tokens); a larger "
        "serving.max_concurrency helps only where a larger batch takes hardly longer per step",
    )


__all__ = ["check"]
