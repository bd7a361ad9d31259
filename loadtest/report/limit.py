"""How far a run was from what the server's machine can do."""

from slipstream.loadtest.report.drawing.page import Block, Note, Table
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.results.achieved import Achieved
from slipstream.loadtest.results.verdict import Result

_HEADS = ("median", "measured, ms", "at least, ms", "share that cannot be avoided", "bound by")


def limit_blocks(result: Result) -> list[Block]:
    """A sentence for each latency whose bound is known, and all of them as a table; nothing where none is."""
    if not result.achieved:
        return []
    rows = [_row(one) for one in result.achieved]
    table = Table("Medians beside their lower bounds", _HEADS, rows, frozenset({1, 2, 3}))
    return [*(Note(f"{one.sentence}.") for one in result.achieved), table]


def _row(one: Achieved) -> tuple[str, ...]:
    share = f"{number(100 * one.share)}%"
    return one.metric, number(one.measured_ms), number(one.bound_ms), share, one.resource


__all__ = ["limit_blocks"]
