"""What each stage put on a GPU, by the range that the launching thread was in.

A kernel or a copy carries the number of the call of CUDA's runtime that launched it, within its process; the innermost
range pushed on that call's thread owns it. With a CUDA graph, all kernels of a launch carry the launch's number; where
nsys was told to record graphs as wholes, as newer versions do unless told otherwise, there is one row for the launch.
"""

from typing import Any

from slipstream.profiling.nsys.export import Export
from slipstream.profiling.nsys.results import GpuWork

_RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
_TOLD = 10  # kernels of a stage, and graphs
_DIRECTIONS = {1: "host to device", 2: "device to host", 8: "on one device", 9: "on the host", 10: "device to device"}
"""Of CUDA's ``cudaMemcpyKind`` as CUPTI counts it (ENUM_CUDA_MEMCPY_OPER of an export)."""


def gpu_work(export: Export) -> tuple[GpuWork, ...]:
    """By stage, what took longest first; of kernels and of graphs the ten of a stage that did. Empty without a GPU."""
    export.rows.executescript(_LAUNCHES if export.has(_RUNTIME) else _NO_LAUNCHES)
    found: list[GpuWork] = []
    if export.has(_KERNELS):
        found += [
            GpuWork(stage, "kernel", name, times, total, longest, None)
            for stage, name, times, total, longest, place in _rows(export, _BY_KERNEL)
            if place <= _TOLD
        ]
    if export.has(_GRAPHS):
        found += [
            GpuWork(stage, "graph", f"CUDA graph {number}", times, total, longest, None)
            for stage, number, times, total, longest, place in _rows(export, _BY_GRAPH)
            if place <= _TOLD
        ]
    if export.has(_COPIES):
        found += [
            GpuWork(stage, "copy", _DIRECTIONS.get(kind, f"copy kind {kind}"), *row)
            for stage, kind, *row in _rows(export, _BY_COPY)
        ]
    if export.has(_SETS):
        found += [GpuWork(stage, "set", "memory set", *row) for stage, *row in _rows(export, _BY_SET)]
    return tuple(sorted(found, key=lambda work: (work.stage, -work.total_ms)))


def whole_graphs(export: Export) -> int:
    """Launches of CUDA graphs whose kernels were not recorded."""
    return int(export.one(f"SELECT count(*) FROM {_GRAPHS}")[0]) if export.has(_GRAPHS) else 0  # noqa: S608


_KERNELS, _GRAPHS, _COPIES, _SETS = (
    f"CUPTI_ACTIVITY_KIND_{name}" for name in ("KERNEL", "GRAPH_TRACE", "MEMCPY", "MEMSET")
)
_LAUNCH = (
    "CREATE TEMP TABLE launch (process INTEGER, correlation INTEGER, stage TEXT, PRIMARY KEY (process, correlation));"
)
_NO_LAUNCHES = _LAUNCH
_LAUNCHES = f"""
{_LAUNCH}
CREATE TEMP TABLE cuda AS
SELECT made.rowid AS id, made.globalTid AS thread, made.start AS start, made.correlationId AS correlation
FROM {_RUNTIME} AS made WHERE made.globalTid IN (SELECT DISTINCT thread FROM span WHERE is_pushed);
CREATE INDEX temp.cuda_thread ON cuda (thread, start);

INSERT OR IGNORE INTO launch
SELECT process, correlation, stage FROM (
    SELECT span.process AS process, cuda.correlation AS correlation, span.stage AS stage, max(span.start)
    FROM span CROSS JOIN cuda ON cuda.thread = span.thread AND cuda.start >= span.start AND cuda.start < span.end
    WHERE span.is_pushed AND span.end IS NOT NULL
    GROUP BY cuda.id);
"""  # noqa: S608
_JOINED = """
AS work LEFT JOIN launch ON launch.process = work.globalPid >> 24 AND launch.correlation = work.correlationId
"""
_TIMES = "count(*), sum(work.end - work.start) / 1e6, max(work.end - work.start) / 1e6"
_BY_KERNEL = f"""
SELECT coalesce(launch.stage, ''), coalesce(named.value, '?'), {_TIMES},
    row_number() OVER (PARTITION BY launch.stage ORDER BY sum(work.end - work.start) DESC)
FROM {_KERNELS} {_JOINED} LEFT JOIN StringIds AS named ON named.id = work.shortName
GROUP BY launch.stage, work.shortName
"""  # noqa: S608
_BY_GRAPH = f"""
SELECT coalesce(launch.stage, ''), work.graphId, {_TIMES},
    row_number() OVER (PARTITION BY launch.stage ORDER BY sum(work.end - work.start) DESC)
FROM {_GRAPHS} {_JOINED} GROUP BY launch.stage, work.graphId
"""  # noqa: S608
_BY_COPY = f"""
SELECT coalesce(launch.stage, ''), work.copyKind, {_TIMES}, sum(work.bytes)
FROM {_COPIES} {_JOINED} GROUP BY launch.stage, work.copyKind
"""  # noqa: S608
_BY_SET = f"""
SELECT coalesce(launch.stage, ''), {_TIMES}, sum(work.bytes) FROM {_SETS} {_JOINED} GROUP BY launch.stage
"""  # noqa: S608


def _rows(export: Export, sql: str) -> list[tuple[Any, ...]]:
    return export.rows.execute(sql).fetchall()


__all__ = ["gpu_work", "whole_graphs"]
