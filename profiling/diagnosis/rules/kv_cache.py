"""The KV cache is full while slots are free: requests wait for a place in it, queued or inside their prefill."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.diagnosis.waits import FULL, OWNS, held_ms, often, said, waits


def check(case: Case) -> Finding | None:
    """Needs the engine's gauges. Where slots are short more often, `slots` speaks, and of the cache too."""
    first, found = case.until_first, waits(case)
    if first is None or not often(found.for_cache, case.gauges) or len(found.for_cache) <= len(found.for_slot):
        return None
    held = held_ms(case, first)
    if held < OWNS * first.tail.mean_ms:
        return None
    count = len(found.for_cache)
    active, waiting = (sum(getattr(look, name) for look in found.for_cache) / count for name in ("active", "waiting"))
    return Finding(
        rule="kv_cache",
        cause="The KV cache is full while slots are free, so requests wait for a place in it before they are read.",
        evidence=(
            (
                f"cache at least {FULL:.0%} full in {count + len(found.both)} of {len(case.gauges)} looks, every slot "
                f"taken and generations waiting in {len(found.both)} of these"
            ),
            (
                f"{active:.1f} generations active and {waiting:.1f} waiting in the others; {found.slots:.0f} active at "
                "most in this run"
            ),
            (
                f"queue, and what prefill takes beyond that of the fastest tenth, are {held / first.tail.mean_ms:.0%} "
                f"of the {said(first)} of the slowest 5% ({held:.0f} of {first.tail.mean_ms:.0f} ms)"
            ),
        ),
        remedy="raise serving.kv_cache_bytes in the recipe where memory is left, else lower serving.max_concurrency, "
        "serving.context_tokens or serving.max_output_tokens; more slots do not help",
    )


__all__ = ["check"]
