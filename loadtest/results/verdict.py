"""The result of a run: the verdict on every SLO, the checks, the metrics; all from its samples and nothing else.

The verdict of the run is VOID where a check says so: what was measured is not the server. Else FAIL where any SLO is
refuted, INCONCLUSIVE where any is open, PASS where all are proven, and None without SLOs. Each SLO is tested at the
scenario's confidence. A PASS of several errs no more often than that (all of them had to be proven); a FAIL of k SLOs
that all hold has up to k times the chance of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from slipstream.loadtest.results.achieved import Achieved, achieved
from slipstream.loadtest.results.checks import Check, check_run
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.metrics import Metrics, measure
from slipstream.loadtest.results.plain import as_plain
from slipstream.loadtest.results.slos import SloResult, good_requests, judge_slo
from slipstream.loadtest.results.timeline import Timeline, timeline
from slipstream.loadtest.results.window import measured_window
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.limit.known import Limit

RunVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "VOID"]
EXIT_CODES: dict[RunVerdict | None, int] = {"PASS": 0, None: 0, "FAIL": 1, "VOID": 2, "INCONCLUSIVE": 3}


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        scenario: its name.
        verdict: of the run; None where the scenario has no SLO, so nothing was claimed.
        confidence: of every test and interval.
        good_share: of the counted requests that met every SLO; None without SLOs or requests.
        achieved: how far its latencies are from what the server's machine can do; empty where that is not known.
    """

    scenario: str
    verdict: RunVerdict | None
    confidence: float
    slos: tuple[SloResult, ...]
    checks: tuple[Check, ...]
    good_share: float | None
    metrics: Metrics
    timeline: Timeline
    achieved: tuple[Achieved, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 PASS or nothing claimed, 1 FAIL, 2 VOID, 3 INCONCLUSIVE.

        Where nothing is claimed and no request succeeded, 1 if they failed and 3 if there was none.
        """
        counts = self.metrics.counts
        if self.verdict is None and not counts.ok:
            return EXIT_CODES["FAIL" if counts.errors else "INCONCLUSIVE"]
        return EXIT_CODES[self.verdict]

    @property
    def void_because(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "void")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands beside the verdict, of checks and of SLOs."""
        checks = tuple(check.message for check in self.checks if check.status == "warning")
        return checks + tuple(f"{slo.label}: {warning}" for slo in self.slos for warning in slo.warnings)

    def as_dict(self) -> dict[str, Any]:
        """For ``result.json``: only JSON's types; what is not finite is None."""
        plain: dict[str, Any] = as_plain(self)
        for slo, found in zip(self.slos, plain["slos"], strict=True):
            found.update(independent=slo.independent, sentence=slo.sentence, warnings=list(slo.warnings))
        for one, said in zip(self.achieved, plain["achieved"], strict=True):
            said.update(sentence=one.sentence)
        return {"format": 1, "exit_code": self.exit_code, "warnings": list(self.warnings), **plain}


def judge(
    scenario: Scenario,
    samples: Iterable[Sample],
    *,
    planned_s: Sequence[float] | None = None,
    stopped_s: float | None = None,
    was_killed: bool = False,
    lost_workers: int = 0,
    limit: Limit | None = None,
) -> Result:
    """Everything that the samples of a run say.

    Args:
        samples: in any order, those of the warm-up too.
        planned_s: when each arrival of the plan was due, by its index; None for a closed loop.
        stopped_s: when the run was stopped before its end, in seconds since its start; None: it ended by itself.
        was_killed: what was in flight when it was stopped left no sample, not even that it was cut off.
        lost_workers: processes of the generator that were gone before the end.
        limit: of the server's machine with its bundle, where both are known.
    """
    columns = Columns.of(samples, streamed=scenario.stream)
    return judge_columns(scenario, columns, planned_s, stopped_s, lost_workers, limit, was_killed=was_killed)


@np.errstate(invalid="ignore")  # times that are no numbers are what the check of times is for
def judge_columns(
    scenario: Scenario,
    columns: Columns,
    planned_s: Sequence[float] | None = None,
    stopped_s: float | None = None,
    lost_workers: int = 0,
    limit: Limit | None = None,
    *,
    was_killed: bool = False,
) -> Result:
    """`judge` for samples that are columns already."""
    window = measured_window(scenario, columns, stopped_s)
    good = good_requests(columns, scenario.slos)
    slos = tuple(judge_slo(columns, slo, scenario.confidence) for slo in scenario.slos)
    checks = check_run(scenario, columns, window, planned_s, stopped_s, lost_workers, was_killed=was_killed)
    counted = int(columns.is_counted.sum())
    metrics = measure(columns, window, good, scenario.confidence)
    return Result(
        scenario=scenario.name,
        verdict=run_verdict(slos, checks),
        confidence=scenario.confidence,
        slos=slos,
        checks=checks,
        good_share=float(good[columns.is_counted].mean()) if good is not None and counted else None,
        metrics=metrics,
        timeline=timeline(columns),
        achieved=() if limit is None else achieved(limit, columns, metrics),
    )


def run_verdict(slos: Sequence[SloResult], checks: Sequence[Check]) -> RunVerdict | None:
    """One verdict of many."""
    if any(check.status == "void" for check in checks):
        return "VOID"
    verdicts = {slo.verdict for slo in slos}
    worst: tuple[RunVerdict, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
    return next((verdict for verdict in worst if verdict in verdicts), None)


__all__ = ["EXIT_CODES", "Result", "RunVerdict", "judge", "judge_columns", "run_verdict"]
