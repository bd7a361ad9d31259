"""Every slot of the engine is taken: requests wait for a slot, whether or not its cache has room."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.diagnosis.waits import FULL, OWNS, held_ms, often, said, waits


def check(case: Case) -> Finding | None:
    """Needs the engine's gauges."""
    first, found = case.until_first, waits(case)
    waiting = found.for_slot
    if first is None or not often(waiting, case.gauges) or len(waiting) < len(found.for_cache):
        return None
    both = often(found.both, waiting)
    held = held_ms(case, first) if both else first.tail.stages.get("queue", 0.0)
    if held < OWNS * first.tail.mean_ms:
        return None
    mean = sum(look.waiting for look in waiting) / len(waiting)
    fullest = max(look.cache_usage_ratio for look in waiting)
    what = "queue, and what prefill takes beyond that of the fastest tenth, are" if both else "queue is"
    return Finding(
        rule="slots",
        cause="More is asked than the engine's slots get through, so requests queue for a slot"
        + (", and the KV cache has no place for more slots." if both else "."),
        evidence=(
            f"generations were waiting in {len(waiting)} of {len(case.gauges)} looks, {mean:.1f} of them on average",
            f"{max(look.active for look in waiting):.0f} ran then, and the KV cache was {fullest:.0%} full at most",
            *([f"it was at least {FULL:.0%} full in {len(found.both)} of them: both bind"] if both else []),
            (
                f"{what} {held / first.tail.mean_ms:.0%} of the {said(first)} of the slowest 5% "
                f"({held:.0f} of {first.tail.mean_ms:.0f} ms)"
            ),
        ),
        remedy=_BOTH if both else _SLOTS,
    )


_LESS = "ask less of this machine, or make answers shorter (serving.max_output_tokens); "
_SLOTS = _LESS + ("a larger serving.max_concurrency helps only where a larger batch takes hardly longer per step")
_BOTH = _LESS + (
    "a larger serving.max_concurrency alone does not help: raise serving.kv_cache_bytes with it, where memory is left"
)


__all__ = ["check"]
