"""All rules over one case."""

from collections.abc import Callable

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.diagnosis.rules import (
    fragmentation,
    host_bound,
    kv_cache,
    memory_bound,
    outside,
    prefill_stalls,
    slots,
    slow_store,
    speculation,
    starved,
    transfers,
)

Rule = Callable[[Case], Finding | None]
RULES: tuple[Rule, ...] = (
    starved.check,
    slow_store.check,
    kv_cache.check,
    slots.check,
    host_bound.check,
    transfers.check,
    fragmentation.check,
    prefill_stalls.check,
    speculation.check,
    memory_bound.check,
    outside.check,
)


def diagnose(case: Case) -> list[Finding]:
    """What the rules find, the gravest first; nothing without requests."""
    if not len(case.timeline):
        return []
    found = [finding for rule in RULES if (finding := rule(case)) is not None]
    return sorted(found, key=lambda finding: finding.severity != "high")


__all__ = ["RULES", "Rule", "diagnose"]
