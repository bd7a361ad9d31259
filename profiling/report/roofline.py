"""The roofline of this machine, and where the profile's decode steps and prefills lie under it.

S. Williams, A. Waterman, D. Patterson: Roofline, Communications of the ACM 52(4), 2009.
"""

from collections.abc import Sequence

import numpy as np

from slipstream.loadtest.report.drawing.charts import Axis, Chart, Line, Points, Rule
from slipstream.loadtest.report.drawing.page import Block, Facts, Figure, Note
from slipstream.loadtest.report.drawing.scales import number
from slipstream.profiling.diagnosis.case import WorkLimit
from slipstream.profiling.limit.work import Load

_UNKNOWN = (
    "The limit of this machine with this bundle is not known: the server is another machine, its bundle is not in this "
    "home, or others disturbed the measurement (slipstream profile limit)."
)


def limit_blocks(limit: WorkLimit | None, step_ms: float | None) -> list[Block]:
    """The plot, and how far each kind of work is from the roof.

    Args:
        step_ms: the median decode step of this profile; None: not known.
    """
    if limit is None:
        return [Note(_UNKNOWN)]
    facts = limit_rows(limit, step_ms)
    return [_figure(limit, _known(limit, step_ms)), Facts("Distance from the limit", facts, wide=True)]


def limit_rows(limit: WorkLimit | None, step_ms: float | None) -> list[tuple[str, str]]:
    """The roofs, and each kind of work with its share of what is possible; nothing without a limit."""
    if limit is None:
        return []
    return [
        ("memory bandwidth, measured", f"{number(limit.memory_bytes_per_s / 1e9)} GB/s"),
        ("arithmetic, measured", f"{number(limit.operations_per_s / 1e9)} G operations/s"),
        *(_row(limit, name, load, taken) for name, load, taken in _known(limit, step_ms)),
    ]


def _known(limit: WorkLimit, step_ms: float | None) -> list[tuple[str, Load, float]]:
    works = [("decode step", limit.decode, step_ms), ("prefill", limit.prefill, limit.prefill_ms)]
    return [(name, load, taken) for name, load, taken in works if load is not None and taken]


def _row(limit: WorkLimit, name: str, load: Load, taken_ms: float) -> tuple[str, str]:
    least = limit.least_ms(load)
    sequences = f" of {limit.streams} sequences" if name == "decode step" else ""
    binds = "memory" if limit.reading_ms(load) >= least else "arithmetic"
    beyond = "the prefix cache held a part of it" if not sequences else "it had fewer sequences than the mean"
    said = f"{least / taken_ms:.0%} of the limit" if least <= taken_ms else beyond
    return f"{name}{sequences}", f"{number(taken_ms)} ms, at least {number(least)} ms ({binds} binds): {said}"


def _figure(limit: WorkLimit, known: Sequence[tuple[str, Load, float]]) -> Figure:
    ridge = limit.operations_per_s / limit.memory_bytes_per_s
    intensities = [load.operations / load.read_bytes for _, load, _ in known]
    x = np.array([min([*intensities, ridge]) / 3, ridge, max([*intensities, ridge]) * 3])
    roof = np.minimum(x * limit.memory_bytes_per_s, limit.operations_per_s) / 1e9
    points = [
        Points(
            name,
            np.array([load.operations / load.read_bytes]),
            np.array([load.operations / taken / 1e6]),
            tone,
            "diamond" if tone == 2 else "triangle",
            [(f"{name}: {number(load.operations / load.read_bytes)} operations per byte, "
             f"{number(load.operations / taken / 1e6)} G operations/s")],
        )
        for tone, (name, load, taken) in enumerate(known, 2)
    ]  # fmt: skip
    chart = Chart(
        "Roofline: what this machine can compute by how much it computes per byte that it reads",
        Axis("operations per byte read from memory", log=True),
        Axis("G operations/s", log=True),
        (Line("roof", x, roof, 1), Rule("x", ridge, "the roofs meet", side="start"), *points),
    )
    note = "Left of where the roofs meet, memory binds; right of it, arithmetic. A point on the roof is at the limit."
    return Figure("Roofline", chart, note, wide=True)


__all__ = ["limit_blocks", "limit_rows"]
