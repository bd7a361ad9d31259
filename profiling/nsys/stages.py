"""Time by stage: counts and percentiles of our ranges."""

from typing import Any

from slipstream.profiling.nsys.export import BEGUN, PUSHED, Export
from slipstream.profiling.nsys.results import StageTimes
from slipstream.profiling.spans import STAGES

# A percentile is the first place that holds at least that share; whole numbers, as 0.95 of 20 is not 19 in floats.
_TIMES = """
WITH ranked AS (
    SELECT stage, payload, thread, end - start AS took,
        row_number() OVER (PARTITION BY stage ORDER BY end - start) AS place,
        count(*) OVER (PARTITION BY stage) AS times
    FROM span WHERE end IS NOT NULL)
SELECT stage, times, count(DISTINCT payload), count(DISTINCT thread), sum(took),
    min(took) FILTER (WHERE place * 100 >= times * 50), min(took) FILTER (WHERE place * 100 >= times * 90),
    min(took) FILTER (WHERE place * 100 >= times * 95), min(took) FILTER (WHERE place * 100 >= times * 99),
    max(took)
FROM ranked GROUP BY stage
"""


def stage_times(export: Export) -> tuple[StageTimes, ...]:
    """Every name of a range: the stages in the order of a request, then ``step`` and whatever else there is."""
    unclosed: dict[str, int] = dict(
        export.rows.execute("SELECT stage, count(*) FROM span WHERE end IS NULL GROUP BY stage")
    )
    found = {row[0]: row for row in export.rows.execute(_TIMES)}
    order = {name: place for place, name in enumerate((*STAGES, "step"))}
    names = sorted(found.keys() | unclosed.keys(), key=lambda name: (order.get(name, len(order)), name))
    return tuple(_times(name, found.get(name, _NO_TIMES), unclosed.get(name, 0)) for name in names)


_NO_TIMES = (None, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _times(stage: str, row: tuple[Any, ...], unclosed: int) -> StageTimes:
    _, ranges, requests, threads, *nanoseconds = row
    total, p50, p90, p95, p99, longest = (nanosecond / 1e6 for nanosecond in nanoseconds)
    belongs = stage in STAGES
    return StageTimes(
        stage, ranges, unclosed, requests if belongs else None, threads, total, p50, p90, p95, p99, longest
    )


def foreign_ranges(export: Export) -> int:
    """Ranges of other domains: libraries mark theirs, too."""
    (everywhere,) = export.one(f"SELECT count(*) FROM NVTX_EVENTS WHERE eventType IN ({PUSHED}, {BEGUN})")  # noqa: S608
    (ours,) = export.one("SELECT count(*) FROM span")
    return int(everywhere - ours)


__all__ = ["foreign_ranges", "stage_times"]
