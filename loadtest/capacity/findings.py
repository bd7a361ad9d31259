"""What a point came to, computed from the files of its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slipstream.loadtest.capacity.record import Begun, CapacityFolder
from slipstream.loadtest.capacity.saturation import Growth, growth
from slipstream.loadtest.capacity.search import Tried
from slipstream.loadtest.capacity.stopping import misses_that_refute
from slipstream.loadtest.folder import Folder
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import SloResult
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.run import conclude
from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import Plan

Word = Literal["held", "refuted", "open", "void", "unfinished"]
Ending = Literal["whole", "stopped", "killed"]


@dataclass(frozen=True)
class Point:
    """One rate and what was found at it.

    Attributes:
        rate: requests per second that were asked for.
        offered_per_s: at which the planned measured requests come.
        word: ``unfinished`` where somebody ended it before its misses refuted an SLO; it says nothing.
        planned: measured requests.
        stopped_s: when it was ended before its last request, seconds since its start.
        growth: of its queue; None where too little is known.
    """

    begun: Begun
    rate: float
    offered_per_s: float
    word: Word
    planned: int
    scenario: Scenario
    result: Result
    stopped_s: float | None = None
    growth: Growth | None = None

    @property
    def is_saturated(self) -> bool:
        return self.begun.stopped == "saturated" or (self.growth is not None and self.growth.is_saturated)


def judge_point(folder: CapacityFolder, begun: Begun) -> Point:
    """Conclude the point in its own folder, and say what it means for the search.

    Raises:
        NoRunThere: it never began.
    """
    run = folder.point(begun)
    result = conclude(run)
    plan = Plan.read(run.plan)
    moments_s = [one.scheduled_s for one in plan.arrivals if one.measured and one.scheduled_s is not None]
    grew = growth(Columns.of(read_samples(run.samples), streamed=plan.scenario.stream))
    how, stopped_s = _ending(run)
    length_s = max(moments_s, default=0.0) - plan.scenario.warmup
    return Point(
        begun=begun,
        rate=begun.rate,
        offered_per_s=len(moments_s) / length_s if length_s > 0 else begun.rate,
        word=_word(result, len(moments_s), begun, grew, how),
        planned=len(moments_s),
        scenario=plan.scenario,
        result=result,
        stopped_s=stopped_s,
        growth=grew,
    )


def _ending(run: Folder) -> tuple[Ending, float | None]:
    """How the point ended, and when, if not by itself."""
    _, _, moments = run.read_run()
    if moments is None or moments.ended_s is None:
        return "killed", max((one.end_s for one in read_samples(run.samples)), default=0.0)
    return ("stopped", moments.ended_s) if moments.was_stopped else ("whole", None)


def _word(result: Result, planned: int, begun: Begun, grew: Growth | None, how: Ending) -> Word:
    is_whole = how == "whole"
    if result.verdict == "VOID":  # what was in flight left no samples when it was killed, which checks cannot know
        return "unfinished" if how == "killed" else "void"
    if begun.stopped == "saturated" or (is_whole and grew is not None and grew.is_saturated):
        return "refuted"
    if any(_refutes_the_whole(slo, planned, result.confidence) for slo in result.slos):
        return "refuted"
    if not is_whole:
        return "unfinished"
    verdicts = {slo.verdict for slo in result.slos}
    return "refuted" if "FAIL" in verdicts else "held" if verdicts == {"PASS"} else "open"


def _refutes_the_whole(slo: SloResult, planned: int, confidence: float) -> bool:
    """Whether its misses refute it over all planned requests, however the rest would have gone."""
    enough = misses_that_refute(planned, slo.slo.quantile, confidence)
    return enough is not None and slo.misses >= enough


def tried(points: Sequence[Point]) -> list[Tried]:
    """Those that say something."""
    return [Tried(one.rate, one.word) for one in points if one.word in ("held", "refuted", "open")]


__all__ = ["Point", "Word", "judge_point", "tried"]
