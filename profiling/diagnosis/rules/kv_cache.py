"""The KV cache is full and the queue for a place in it makes the slow first tokens."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding

_FULL = 0.95
_OFTEN = 0.2  # of the looks; a cache that is full for a moment has done its work
_LEAST_LOOKS = 3
_OWNS = 0.3  # of the time until the first token, in the slow tail


def check(case: Case) -> Finding | None:
    """Needs the engine's gauges."""
    full = [look for look in case.gauges if look.cache_usage_ratio >= _FULL]
    first = case.until_first
    if first is None or len(full) < max(_LEAST_LOOKS, _OFTEN * len(case.gauges)):
        return None
    waiting = sum(look.waiting for look in full) / len(full)
    if waiting < 1 or first.tail.share("queue") < _OWNS:
        return None
    return Finding(
        rule="kv_cache",
        cause="The KV cache is full, so requests queue for a place in it before their first token.",
        evidence=(
            f"cache at least {_FULL:.0%} full in {len(full)} of {len(case.gauges)} looks",
            f"{waiting:.1f} generations waiting then, {max(look.waiting for look in case.gauges):.0f} at most",
            (
                f"queue is {first.tail.share('queue'):.0%} of the TTFT of the slowest 5% "
                f"({first.tail.stages['queue']:.0f} ms, {first.every.stages['queue']:.0f} ms of all requests)"
            ),
        ),
        remedy="raise serving.kv_cache_bytes in the recipe where memory is left, else lower serving.max_concurrency, "
        "serving.context_tokens or serving.max_output_tokens",
    )


__all__ = ["check"]
