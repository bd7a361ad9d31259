"""Reading a capture: from the export to the result."""

from pathlib import Path

from slipstream.profiling.nsys.calls import calls_by_stage, gather_calls
from slipstream.profiling.nsys.export import Export, opened
from slipstream.profiling.nsys.gpu import gpu_work
from slipstream.profiling.nsys.requests import read_requests
from slipstream.profiling.nsys.results import Reading, Requests
from slipstream.profiling.nsys.stages import foreign_ranges, stage_times


def read_export(path: Path, answered: int | None = None) -> Reading:
    """What the SQLite export at ``path`` says.

    Args:
        answered: how many requests the load generator saw begin and succeed in the capture; None: not known.

    Raises:
        NoExport, SchemaUnknown, NoRanges: see `opened`.
    """
    with opened(path) as export:
        has_calls = gather_calls(export)
        requests = read_requests(export, answered)
        (processes,) = export.one("SELECT count(DISTINCT process) FROM span")
        return Reading(
            nsys=export.nsys,
            schema=export.schema,
            window_ms=_window_ms(export),
            processes=processes,
            foreign_ranges=foreign_ranges(export),
            stages=stage_times(export),
            calls=calls_by_stage(export),
            gpu=gpu_work(export),
            requests=requests,
            notes=tuple(_notes(requests, has_calls=has_calls)),
        )


def _window_ms(export: Export) -> float:
    if export.has("ANALYSIS_DETAILS"):
        (duration,) = export.one("SELECT max(duration) FROM ANALYSIS_DETAILS")
        return float(duration) / 1e6
    (duration,) = export.one("SELECT max(coalesce(end, start)) - min(start) FROM span")
    return float(duration) / 1e6


def _notes(requests: Requests, *, has_calls: bool) -> list[str]:
    notes = []
    if not has_calls:
        notes.append("the system's libraries were not traced, so there is nothing about waits")
    if requests.answered is not None and requests.whole < requests.answered:
        notes.append(
            f"{requests.answered} requests were answered while it was captured and {requests.whole} are in it whole: "
            "ranges were lost, or requests of another kind than most were among them"
        )
    if requests.whole < 100:
        notes.append(f"{requests.whole} whole requests: the slowest 1% is the slowest one")
    return notes


__all__ = ["read_export"]
