"""The server's own times by stage: the slow tail beside all requests."""

from collections.abc import Mapping

import numpy as np

from slipstream.loadtest.report.drawing.bars import Bar, Bars, Part
from slipstream.loadtest.report.drawing.page import BarFigure, Block, Note, Table
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.metrics import Stage
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.statistics.order import quantile_rank

REST = "rest"
# Slipstream's own stages keep their colour in every picture; those of other servers take what is left in turn.
_TONES = {
    "queue": 2, "embed": 4, "retrieve": 3, "prompt": 5, "prefill": 1, "decode": 7, "detokenize": 8, "stream": 9,
    REST: 6,
}  # fmt: skip
_OTHERS = (1, 3, 4, 5, 7, 8, 9)


def tone_of(stage: str, place: int = 0) -> int:
    """The colour of ``stage``; ``place`` tells those of other servers apart."""
    return _TONES.get(stage, _OTHERS[place % len(_OTHERS)])


def stage_blocks(columns: Columns, result: Result) -> list[Block]:
    """Which stages the slowest 5% spent more of their time in than all requests did."""
    stages = result.metrics.stages
    if not stages:
        return [Note("The server told no times of its stages (it does so on request or not at all).")]
    done = columns.measured & columns.is_ok
    durations = columns.latency_s("e2e", "sent")[done] * 1e3
    durations = durations[np.isfinite(durations)]
    if not len(durations):
        return [Note("No request has a duration, so there is no slow tail.")]
    slow = durations >= np.sort(durations)[quantile_rank(len(durations), 0.95) - 1]
    every = {name: stage.milliseconds.mean for name, stage in stages.items()}
    tail = {name: stage.slow_tail_ms or 0.0 for name, stage in stages.items()}
    all_ms, slow_ms = float(durations.mean()), float(durations[slow].mean())
    bars = Bars(
        "share of each stage in the time of a request",
        (stage_bar("all requests", every, all_ms), stage_bar("slowest 5%", tail, slow_ms)),
        whole=True,
    )
    rows = [(name, *_numbers(stage), _share(every[name], all_ms), _share(tail[name], slow_ms))
            for name, stage in stages.items()]  # fmt: skip
    heads = (
        "stage", "n", "p50, ms", "p95, ms", "p99, ms", "mean, ms", "mean of the slowest 5%, ms", "share of all",
        "of the slowest 5%",
    )  # fmt: skip
    note = "Each bar is the mean time of a request, end-to-end since sent. The rest is what no stage accounts for."
    table = Table("Server's own times by stage", heads, rows, frozenset(range(1, len(heads))))
    return [BarFigure("Where the time goes", bars, note), table]


def _numbers(stage: Stage) -> tuple[str, ...]:
    found = stage.milliseconds
    levels = (number(found.at(level).value) for level in (0.5, 0.95, 0.99))
    return (f"{found.count:,}", *levels, number(found.mean), number(stage.slow_tail_ms))


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.0f}%" if total > 0 else "–"


def stage_bar(name: str, stages: Mapping[str, float], total: float) -> Bar:
    """Mean milliseconds by stage, and of ``total`` what none of them accounts for."""
    rest = total - sum(stages.values())
    named = [*stages.items(), *([(REST, rest)] if rest > 0 else [])]
    whole = sum(value for _, value in named) or 1.0
    parts = tuple(
        Part(stage, value, tone_of(stage, place), f"{stage}: {number(value)} ms, {number(100 * value / whole)}%")
        for place, (stage, value) in enumerate(named)
    )
    return Bar(name, parts, f"{number(total)} ms")


__all__ = ["REST", "stage_bar", "stage_blocks", "tone_of"]
