"""Reading a capture: from the export to the result."""

from pathlib import Path

from slipstream.profiling.nsys.answered import Answered
from slipstream.profiling.nsys.calls import calls_by_stage, gather_calls
from slipstream.profiling.nsys.export import Export, opened
from slipstream.profiling.nsys.gpu import gpu_work, whole_graphs
from slipstream.profiling.nsys.requests import read_requests
from slipstream.profiling.nsys.results import Reading, Requests
from slipstream.profiling.nsys.stages import foreign_ranges, stage_times


def read_export(path: Path, answered: Answered | None = None) -> Reading:
    """What the SQLite export at ``path`` says.

    Args:
        answered: what the load generator saw begin and succeed in the capture; None: not known.

    Raises:
        NoExport, SchemaUnknown, NoRanges: see `opened`.
    """
    with opened(path) as export:
        has_calls = gather_calls(export)
        window_ns = _window_ns(export)
        requests = read_requests(export, window_ns, answered)
        (processes,) = export.one("SELECT count(DISTINCT process) FROM span")
        return Reading(
            nsys=export.nsys,
            schema=export.schema,
            window_ms=window_ns / 1e6,
            processes=processes,
            foreign_ranges=foreign_ranges(export),
            stages=stage_times(export),
            calls=calls_by_stage(export),
            gpu=gpu_work(export),
            requests=requests,
            notes=tuple(_notes(requests, whole_graphs(export), has_calls=has_calls)),
        )


def _window_ns(export: Export) -> int:
    if export.has("ANALYSIS_DETAILS"):
        (duration,) = export.one("SELECT max(duration) FROM ANALYSIS_DETAILS")
    else:
        (duration,) = export.one("SELECT max(coalesce(end, start)) FROM span")
    return int(duration)


def _notes(requests: Requests, graphs: int, *, has_calls: bool) -> list[str]:
    notes = []
    if not has_calls:
        notes.append("the system's libraries were not traced, so there is nothing about waits")
    if graphs:
        notes.append(
            f"{graphs} launches of CUDA graphs were recorded as wholes, without their kernels; to see them, trace with "
            "--cuda-graph-trace=node"
        )
    if requests.answered is not None and requests.whole < requests.answered:
        notes.append(
            f"{requests.answered} requests were answered while it was captured and {requests.whole} are in it whole: "
            "ranges of the others were lost"
        )
    if 0 < requests.whole < 100:
        notes.append(f"{requests.whole} whole requests: the slowest 1% is the slowest one")
    return notes


__all__ = ["read_export"]
