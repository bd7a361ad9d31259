"""The requests in a capture, and the critical path of the slowest 1% of them.

The ranges of a request carry its payload. A capture cuts requests off at both of its ends, and old versions of nsys
drop the ranges that are still open then, so a request counts as whole if the load generator saw all of it meanwhile.
Where that is not known, its first and its last range have to be of the stage and process that most requests begin and
end with, and after its last one there has to be room for another as long as its longest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from slipstream.profiling.nsys.answered import Answered
from slipstream.profiling.nsys.calls import calls_in_ranges, calls_in_steps
from slipstream.profiling.nsys.export import Export
from slipstream.profiling.nsys.results import Calls, Excess, Part, Requests, SlowRequest
from slipstream.profiling.spans import STAGES

_TOLD, _TOLD_CALLS = 20, 3  # slow requests, and functions of a part of their paths
_ENGINE = ("prefill", "decode")  # what runs meanwhile is beside the critical path
_LEAST_GAP_NS = 50_000  # between two ranges: reading a clock and calling the next stage


class Range(NamedTuple):
    """A range of a request, nanoseconds."""

    start: int
    end: int
    stage: str
    span: int


@dataclass(frozen=True)
class Stretch:
    """A part of a critical path; ``span`` is its range, None where there is none."""

    stage: str
    start: int
    end: int
    span: int | None


def read_requests(export: Export, window_ns: int, seen_by_load: Answered | None = None) -> Requests:
    """What the ranges say of requests, in a capture of ``window_ns``."""
    export.rows.executescript(_REQUESTS)
    if seen_by_load is not None and (seen_by_load.payloads or not seen_by_load.count):
        export.rows.executemany(_WHOLE_IF_SEEN, ((one,) for one in seen_by_load.payloads))
    else:
        export.rows.execute(_WHOLE_IF_LIKE_MOST, (window_ns,))
    answered = None if seen_by_load is None else seen_by_load.count
    seen, whole = export.one("SELECT count(*), coalesce(sum(is_whole), 0) FROM request")
    if not whole:
        return Requests(seen, 0, answered, None, None, None, (), ())
    _gather_paths(export)
    p50, p95, p99 = (value / 1e6 for value in export.one(_PERCENTILES))
    count = -(-whole // 100)
    slowest = export.rows.execute(_SLOWEST, (min(count, _TOLD),)).fetchall()
    excess = tuple(
        Excess(stage, usual / 1e6, slow / 1e6)
        for stage, usual, slow in export.rows.execute(_EXCESS, {"whole": whole, "count": count})
    )
    told = tuple(_slow_request(export, *row) for row in slowest)
    return Requests(seen, whole, answered, p50, p95, p99, told, excess)


_STAGES = ", ".join(f"'{stage}'" for stage in STAGES)
_REQUESTS = f"""
CREATE TEMP TABLE request AS
SELECT payload, min(start) AS start, max(end) AS end, max(end - start) AS longest, sum(end IS NULL) AS still,
    (SELECT one.stage || one.process FROM span AS one WHERE one.payload = span.payload AND one.stage IN ({_STAGES})
        ORDER BY one.start LIMIT 1) AS first,
    (SELECT one.stage || one.process FROM span AS one WHERE one.payload = span.payload AND one.stage IN ({_STAGES})
        ORDER BY one.end DESC LIMIT 1) AS last,
    0 AS is_whole
FROM span WHERE payload IS NOT NULL AND stage IN ({_STAGES}) GROUP BY payload;

CREATE UNIQUE INDEX temp.request_payload ON request (payload);
CREATE TEMP TABLE path (payload INTEGER, stage TEXT, took INTEGER);
"""  # noqa: S608
_WHOLE_IF_SEEN = "UPDATE request SET is_whole = 1 WHERE payload = ? AND still = 0"
_WHOLE_IF_LIKE_MOST = """
UPDATE request SET is_whole = 1 WHERE still = 0 AND end + longest <= ?
    AND first = (SELECT first FROM request GROUP BY first ORDER BY count(*) DESC LIMIT 1)
    AND last = (SELECT last FROM request WHERE still = 0 GROUP BY last ORDER BY count(*) DESC LIMIT 1)
"""
_RANGES = f"""
SELECT span.payload, span.start, span.end, span.stage, span.id
FROM span JOIN request ON request.payload = span.payload
WHERE request.is_whole AND span.stage IN ({_STAGES}) ORDER BY span.payload, span.start
"""  # noqa: S608
_PERCENTILES = """
WITH ranked AS (
    SELECT end - start AS took, row_number() OVER (ORDER BY end - start) AS place, count(*) OVER () AS times
    FROM request WHERE is_whole)
SELECT min(took) FILTER (WHERE place * 100 >= times * 50), min(took) FILTER (WHERE place * 100 >= times * 95),
    min(took) FILTER (WHERE place * 100 >= times * 99)
FROM ranked
"""
_SLOWEST = "SELECT payload, start, end FROM request WHERE is_whole ORDER BY end - start DESC, payload LIMIT ?"
# A request that was never in a stage spent no time there: such requests come first in a stage's order.
_EXCESS = """
WITH slow AS (SELECT payload FROM request WHERE is_whole ORDER BY end - start DESC, payload LIMIT :count),
ranked AS (
    SELECT stage, took, payload, row_number() OVER (PARTITION BY stage ORDER BY took) AS place,
        :whole - count(*) OVER (PARTITION BY stage) AS without
    FROM path),
found AS (
    SELECT stage,
        CASE WHEN max(without) * 2 >= :whole THEN 0
            ELSE min(took) FILTER (WHERE (without + place) * 2 >= :whole) END AS usual,
        coalesce(sum(took) FILTER (WHERE payload IN (SELECT payload FROM slow)), 0) / :count AS slow
    FROM ranked GROUP BY stage)
SELECT stage, usual, slow FROM found ORDER BY slow - usual DESC, stage
"""


def critical_path(ranges: Iterable[Range]) -> list[Stretch]:
    """What a request was in at each moment: the engine where it ran, else the range that began last, else nothing."""
    moments = sorted(
        ((moment, is_end, one) for one in ranges for moment, is_end in ((one.start, False), (one.end, True))),
        key=lambda found: (found[0], found[1]),  # starts first: a range may end in the nanosecond that it began in
    )
    found: list[Stretch] = []
    running: set[Range] = set()
    before = moments[0][0] if moments else 0
    for moment, is_end, one in moments:
        if moment > before:
            _extend(found, max(running, key=_precedence, default=None), before, moment)
            before = moment
        if is_end:
            running.discard(one)
        else:
            running.add(one)
    return found


def _precedence(one: Range) -> tuple[bool, int, int]:
    return one.stage in _ENGINE, one.start, one.span


def _extend(path: list[Stretch], one: Range | None, start: int, end: int) -> None:
    stage, span = ("", None) if one is None else (one.stage, one.span)
    last = path[-1] if path else None
    if last is not None and last.stage == stage and last.span == span:
        path[-1] = Stretch(stage, last.start, end, span)
    else:
        path.append(Stretch(stage, start, end, span))


def _gather_paths(export: Export) -> None:
    """Into ``path``, how long every whole request was in each stage; one request at a time is in memory."""
    rows = export.rows.execute(_RANGES)
    export.rows.executemany("INSERT INTO path VALUES (?, ?, ?)", _times(rows))
    export.rows.execute("CREATE INDEX temp.path_stage ON path (stage, took)")


def _times(rows: Iterable[tuple[int, int, int, str, int]]) -> Iterator[tuple[int, str, int]]:
    for payload, group in groupby(rows, key=lambda row: row[0]):
        took: dict[str, int] = {}
        for part in critical_path(Range(*row[1:]) for row in group):
            took[part.stage] = took.get(part.stage, 0) + part.end - part.start
        yield from ((payload, stage, length) for stage, length in took.items())


def _slow_request(export: Export, payload: int, start: int, end: int) -> SlowRequest:
    rows = export.rows.execute(
        f"SELECT start, end, stage, id FROM span WHERE payload = ? AND stage IN ({_STAGES})",  # noqa: S608
        (payload,),
    )
    path = tuple(
        Part(
            stage=stretches[0].stage,
            start_ms=(stretches[0].start - start) / 1e6,
            length_ms=(stretches[-1].end - stretches[0].start) / 1e6,
            calls=_calls(export, stretches),
        )
        for stretches in _merged(critical_path(Range(*row) for row in rows))
    )
    return SlowRequest(payload, start / 1e6, (end - start) / 1e6, path)


def _merged(path: list[Stretch]) -> list[list[Stretch]]:
    """Neighbours of one stage together, whatever short gap is between them: an engine's steps are many."""
    long = [part for part in path if part.stage or part.end - part.start >= _LEAST_GAP_NS]
    return [list(group) for _, group in groupby(long, key=lambda part: part.stage)]


def _calls(export: Export, stretches: list[Stretch]) -> tuple[Calls, ...]:
    if stretches[0].stage in _ENGINE:
        return calls_in_steps(export, stretches[0].start, stretches[-1].end)[:_TOLD_CALLS]
    found = calls_in_ranges(export, ((one.span, one.start, one.end) for one in stretches if one.span is not None))
    return found[:_TOLD_CALLS]


__all__ = ["Range", "Stretch", "critical_path", "read_requests"]
