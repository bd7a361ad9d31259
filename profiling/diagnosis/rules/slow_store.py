"""Searching the collection takes most of the slow first tokens."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.timeline.shares import stage_rows

_SLOW_MS = 50.0  # p95; a million chunks on this machine's disk take 11 ms
_OWNS = 0.3


def check(case: Case) -> Finding | None:
    """Needs timelines only."""
    first = case.until_first
    rows = {row.stage: row for row in stage_rows(case.timeline)}
    if first is None or "retrieve" not in rows:
        return None
    row, share = rows["retrieve"], first.tail.share("retrieve")
    if row.at_ms[1] < _SLOW_MS or share < _OWNS:
        return None
    until = "TTFT" if first.until == "first token" else "answer"
    return Finding(
        rule="slow_store",
        cause="The search of the collection is slow, and first tokens wait for it.",
        evidence=(
            (
                f"retrieve takes {row.at_ms[0]:.0f} ms in the median, {row.at_ms[1]:.0f} ms at p95 and "
                f"{row.at_ms[2]:.0f} ms at p99"
            ),
            f"it is {share:.0%} of the {until} of the slowest 5%, {first.every.share('retrieve'):.0%} of all requests'",
        ),
        remedy="measure the store alone (slipstream search): a Qdrant server belongs near this machine and its "
        "collection into memory; without QDRANT_URL the search is in-process, and its index wants a fast disk",
    )


__all__ = ["check"]
