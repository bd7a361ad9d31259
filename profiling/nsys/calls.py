"""Calls of the system's libraries inside our ranges: what a stage waited for.

A call counts for the innermost range that was pushed on its thread. Ranges that begin and end on any thread (``queue``,
``prefill``, ``decode``) hold no thread and so no calls; the engine's work is in its ``step`` ranges. Calls shorter than
the threshold of the capture are not in it.
"""

from collections.abc import Iterable

from slipstream.profiling.nsys.export import Export
from slipstream.profiling.nsys.results import CallKind, Calls

_TOLD = 6  # functions of a stage

_KINDS: dict[CallKind, tuple[str, ...]] = {
    "lock": ("pthread_mutex", "pthread_cond", "pthread_rwlock", "pthread_spin", "pthread_barrier", "sem_", "futex"),
    "socket": (
        "poll", "ppoll", "epoll", "select", "pselect", "accept", "connect", "recv", "send", "eventfd", "socket",
    ),
    "sleep": ("nanosleep", "clock_nanosleep", "usleep", "sleep", "sched_yield"),
    "process": ("wait", "fork", "vfork", "exec", "posix_spawn", "pthread_join", "pthread_create", "pthread_timedjoin"),
    "file": (
        "read", "write", "pread", "pwrite", "open", "close", "fopen", "fclose", "fread", "fwrite", "fflush", "fgets",
        "fsync", "fdatasync", "mmap", "munmap", "msync", "ioctl", "fcntl", "stat", "lseek", "getc", "putc",
    ),
}  # fmt: skip


def kind_of(function: str) -> CallKind:
    """What a function waits for, by its name."""
    name = function.lstrip("_")
    return next((kind for kind, starts in _KINDS.items() if name.startswith(starts)), "other")


def gather_calls(export: Export) -> bool:
    """Make the table ``inside`` (span, stage, function, start, took); False where the libraries were not traced.

    A thread is inside one call at a time, so a call that began inside a range is that range's to its end.
    """
    export.rows.executescript(_EMPTY)
    if not export.has("OSRT_API"):
        return False
    outermost = "coalesce(made.nestingLevel, 0) = 0" if "nestingLevel" in export.tables["OSRT_API"] else "1"
    export.rows.executescript(_INSIDE.format(outermost=outermost))
    return True


_EMPTY = """
CREATE TEMP TABLE inside (
    call INTEGER PRIMARY KEY, span INTEGER, stage TEXT, function INTEGER, start INTEGER, took INTEGER);
CREATE TEMP TABLE stretch (span INTEGER, start INTEGER, end INTEGER);
"""
# SQLite takes the other columns of a group from the row that has the maximum: of the ranges around a call, the last.
_INSIDE = """
CREATE TEMP TABLE call AS
SELECT made.rowid AS id, made.globalTid AS thread, made.start AS start, made.end AS end, made.nameId AS function
FROM OSRT_API AS made
WHERE {outermost} AND made.end > made.start AND made.globalTid IN (SELECT DISTINCT thread FROM span WHERE is_pushed);
CREATE INDEX temp.call_thread ON call (thread, start);

INSERT INTO inside
SELECT id, span, stage, function, start, took FROM (
    SELECT call.id AS id, span.id AS span, span.stage AS stage, call.function AS function, call.start AS start,
        min(call.end, span.end) - call.start AS took, max(span.start)
    FROM span CROSS JOIN call ON call.thread = span.thread AND call.start >= span.start AND call.start < span.end
    WHERE span.is_pushed AND span.end IS NOT NULL
    GROUP BY call.id);
CREATE INDEX temp.inside_span ON inside (span);
CREATE INDEX temp.inside_stage ON inside (stage, start);
"""


def calls_by_stage(export: Export) -> tuple[Calls, ...]:
    """The functions that took longest in each stage, after `gather_calls`."""
    return _found(export, _BY_STAGE, ())


def calls_in_ranges(export: Export, stretches: Iterable[tuple[int, int, int]]) -> tuple[Calls, ...]:
    """Those that began in stretches of ranges of one stage: (range, from, to) each, none of them twice."""
    export.rows.execute("DELETE FROM stretch")
    export.rows.executemany("INSERT INTO stretch VALUES (?, ?, ?)", stretches)
    return _found(export, _IN_RANGES, ())


def calls_in_steps(export: Export, start: int, end: int) -> tuple[Calls, ...]:
    """Those that began between two moments inside the engine's steps."""
    return _found(export, _IN_STEPS, (start, end))[:_TOLD]


_TOTALS = """
SELECT inside.stage, coalesce(named.value, '?'), count(*), sum(inside.took), max(inside.took),
    row_number() OVER (PARTITION BY inside.stage ORDER BY sum(inside.took) DESC) AS place
FROM inside LEFT JOIN StringIds AS named ON named.id = inside.function
"""
_GROUPED = " GROUP BY inside.stage, inside.function ORDER BY inside.stage, place"
_BY_STAGE = _TOTALS + _GROUPED
_IN_RANGES = (
    _TOTALS
    + "JOIN stretch ON inside.span = stretch.span AND inside.start >= stretch.start AND inside.start < stretch.end"
    + _GROUPED
)
_IN_STEPS = _TOTALS + "WHERE inside.stage = 'step' AND inside.start >= ? AND inside.start < ?" + _GROUPED


def _found(export: Export, sql: str, values: tuple[int, ...]) -> tuple[Calls, ...]:
    return tuple(
        Calls(stage, function, kind_of(function), times, total / 1e6, longest / 1e6)
        for stage, function, times, total, longest, place in export.rows.execute(sql, values)
        if place <= _TOLD
    )


__all__ = ["calls_by_stage", "calls_in_ranges", "calls_in_steps", "gather_calls", "kind_of"]
