"""What a search came to: the rate with its interval, the SLO that binds, and all of it in words and for programs."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from slipstream.loadtest.capacity.findings import Point, tried
from slipstream.loadtest.capacity.search import Bracket
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.results.plain import as_plain
from slipstream.loadtest.results.slos import SloResult
from slipstream.loadtest.statistics.binomial import complement

CapacityVerdict = Literal["FOUND", "FAIL", "INCONCLUSIVE", "VOID"]
EXIT_CODES: dict[CapacityVerdict, int] = {"FOUND": 0, "FAIL": 1, "VOID": 2, "INCONCLUSIVE": 3}


@dataclass(frozen=True)
class Capacity:
    """The answer.

    Attributes:
        points: in the order in which they ran.
        ended: why the search ended before it found what it looked for; empty where it did not.
        is_void: a point or the machine made it impossible to go on.
    """

    points: tuple[Point, ...]
    precision: float
    ended: str = ""
    is_void: bool = False

    @property
    def bracket(self) -> Bracket:
        return Bracket.of(tried(self.points))

    @property
    def verdict(self) -> CapacityVerdict:
        """FOUND: the highest held rate is known precisely enough. FAIL: not even the lowest tried one is held."""
        known = self.bracket
        if self.is_void:
            return "VOID"
        if known.is_found(self.precision):
            return "FOUND"
        nothing_held = known.held is None and known.refuted is not None and known.refuted == known.ceiling
        return "FAIL" if nothing_held else "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """0 FOUND, 1 FAIL, 2 VOID, 3 INCONCLUSIVE."""
        return EXIT_CODES[self.verdict]

    def at(self, rate: float | None) -> Point | None:
        """The last point at ``rate`` that says something."""
        return next((one for one in reversed(self.points) if one.rate == rate and one.word != "unfinished"), None)

    @property
    def binds(self) -> str:
        """What was not held at the lowest rate that is not; empty where every rate was."""
        point = self.at(self.bracket.ceiling)
        if point is None:
            return ""
        missed = [slo for slo in point.result.slos if slo.verdict != "PASS"]
        if missed:
            worst = max(missed, key=_excess)
            return worst.label + (f" ({worst.errors} of its {worst.misses} misses failed)" if worst.errors else "")
        return "the queue, which grew without end" if point.is_saturated else ""

    @property
    def sentence(self) -> str:
        """The claim in words."""
        known, binds = self.bracket, f"; {self.binds} binds" if self.binds else ""
        if known.held is None and known.ceiling is None:
            return "no point came to a finding"
        if known.held is None:
            how = "refuted" if known.refuted == known.ceiling else "not proven"
            return f"not even {per_second(known.ceiling)} holds: it is {how}{binds}"
        if known.ceiling is None:
            return f"{per_second(known.held)} is proven, and the limit lies above"
        parts = [f"{per_second(known.held)} is proven"]
        if known.ceiling != known.refuted:
            parts.append(f"{per_second(known.ceiling)} is open")
        parts.append(f"{per_second(known.refuted)} is refuted" if known.refuted is not None else "nothing is refuted")
        return f"{', '.join(parts)}{binds}"

    def as_dict(self) -> dict[str, Any]:
        """For ``capacity.json``: only JSON's types."""
        known = self.bracket
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "sentence": self.sentence,
            "held_per_s": known.held,
            "refuted_per_s": known.refuted,
            "lowest_not_held_per_s": known.ceiling,
            "binds": self.binds,
            "points": [_plain(point) for point in self.points],
        }


def _excess(slo: SloResult) -> tuple[bool, float]:
    """How far beyond what it allows; a refuted one before an open one."""
    share = slo.misses / slo.requests if slo.requests else 0.0
    return slo.verdict == "FAIL", share / complement(slo.slo.quantile)


def _plain(point: Point) -> dict[str, Any]:
    result = point.result
    rates, latencies = result.metrics.rates, result.metrics.latencies
    found: dict[str, Any] = as_plain({
        "number": point.begun.number,
        "folder": point.begun.folder,
        "rate_per_s": point.rate,
        "offered_per_s": point.offered_per_s,
        "finding": point.word,
        "is_saturated": point.is_saturated,
        "stopped": point.begun.stopped,
        "stopped_s": point.stopped_s,
        "seed": point.scenario.seed,
        "planned": point.planned,
        "counted": result.metrics.counts.counted,
        "errors": result.metrics.counts.errors,
        "verdict": result.verdict,
        "slos": [
            {
                "label": slo.label, "verdict": slo.verdict, "requests": slo.requests, "misses": slo.misses,
                "independent": slo.independent,
            }
            for slo in result.slos
        ],
        "p95_ms": {name: one.at(0.95).value for name, one in latencies.items()},
        "rates": None if rates is None else asdict(rates),
        "growth": None if point.growth is None else asdict(point.growth),
        "void_because": [check.message for check in result.void_because],
    })  # fmt: skip
    return found


def per_second(rate: float | None) -> str:
    """``2.83 requests/s``."""
    return f"{number(rate)} requests/s"


__all__ = ["EXIT_CODES", "Capacity", "CapacityVerdict", "per_second"]
