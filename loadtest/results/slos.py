"""Whether each SLO of a scenario was held: proven, refuted or open, and what would settle it.

A request misses an SLO when its metric is above the bound, when it has none though it must (TTFT, end-to-end), and
when it failed. It is not counted when it says nothing: the client went away as planned, the end of the run cut it
off, or the metric is not defined for it (TPOT of fewer than 2 output tokens or of an unknown number of them, ITL of
fewer than 2 chunks).

What was cut off when it was already beyond the bound is a certain miss all the same. It is not counted either, but a
claim is only proven where it also would be with these misses: a run that ends while a queue grows cannot pass by
ending.

Requests that depend on one another count as fewer independent ones: see `weighing`.
"""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.results.columns import Booleans, Columns
from slipstream.loadtest.results.weighing import weigh
from slipstream.loadtest.scenario import Slo
from slipstream.loadtest.statistics.binomial import Outlook, Verdict, complement, decide, outlook
from slipstream.loadtest.statistics.dependence import Dependence
from slipstream.loadtest.statistics.order import Floats, interval_ranks, quantile_rank


@dataclass(frozen=True)
class SloResult:
    """One SLO and what was found.

    Attributes:
        requests: how many were counted.
        misses: of them; ``errors`` of these failed.
        undefined: measured and succeeded, but without a defined metric.
        certain_misses: cut off by the end of the run when they were beyond the bound already; not among ``misses``.
        observed_ms: the quantile of the counted requests, a failed one taking forever; None where that is forever.
        lower_ms, upper_ms: one-sided bounds of the true quantile, each at the scenario's confidence, so that the
            claim is proven exactly when ``upper_ms`` is within the bound and refuted when ``lower_ms`` is above it
            (but for ``certain_misses``); None: too few requests, or a failed one.
        outlook: what would settle an open verdict, in real requests; None for a settled one.
        dependence: why the verdict and both bounds count the requests as `Dependence.effective` independent ones; None
            where they count as they are.
    """

    slo: Slo
    label: str
    verdict: Verdict
    requests: int
    misses: int
    errors: int
    undefined: int
    certain_misses: int
    observed_ms: float | None
    lower_ms: float | None
    upper_ms: float | None
    outlook: Outlook | None
    dependence: Dependence | None

    @property
    def independent(self) -> float:
        """How many independent requests the verdict rests on."""
        return self.requests if self.dependence is None else self.dependence.effective

    @property
    def weighed(self) -> str:
        """Why they are fewer than were counted, in words; empty where they are not."""
        if self.dependence is None:
            return ""
        return (
            f"neighbours are alike, as in a queue (autocorrelation {self.dependence.lag_1:.2f}), so the "
            f"{self.requests:,} count as {self.independent:,.0f} independent ones"
        )

    @property
    def sentence(self) -> str:
        """The verdict in words, with what it rests on and what an open one needs."""
        words = {"PASS": "proven", "FAIL": "refuted", "INCONCLUSIVE": "open"}
        found = f"{self.misses} of {self.requests} requests missed {self.label}: {words[self.verdict]}"
        needed = self._needed if self.verdict == "INCONCLUSIVE" else ""
        return "; ".join(part for part in (found, self.weighed, needed) if part)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know beside the verdict."""
        found = []
        if self.certain_misses:
            found.append(f"{self.certain_misses} requests were beyond the bound when the run's end cut them off")
        if self.undefined:
            found.append(f"{self.undefined} answers have no {self.slo.metric.upper()} and are not counted")
        return tuple(found)

    @property
    def _needed(self) -> str:
        if self.outlook is None:
            return "what was cut off at the end of the run decides it; let the run end by itself"
        without, expected = self.outlook.without_misses, self.outlook.at_this_rate
        least = (
            "no number of requests proves it" if without is None else f"{without} more without a miss would prove it"
        )
        if not self.misses:
            return least
        if expected is None:
            return f"{least}; at the observed miss rate it cannot be settled"
        word = "proof" if self.outlook.towards == "PASS" else "refutation"
        return f"{least}; at the observed miss rate expect {word} after about {expected} more"


def within(columns: Columns, slo: Slo) -> tuple[Booleans, Booleans]:
    """Which requests the SLO applies to, and which of them met it [n]; those of the warm-up too."""
    values = _milliseconds(columns, slo)
    optional = slo.metric in ("tpot", "itl")
    applies = columns.is_error | (columns.is_ok & np.isfinite(values) if optional else columns.is_ok)
    return applies, columns.is_ok & (values <= slo.bound_ms)


def good_requests(columns: Columns, slos: tuple[Slo, ...]) -> Booleans | None:
    """Which requests succeeded and met every SLO that applies to them [n]; None without SLOs."""
    if not slos:
        return None
    good = columns.is_ok.copy()
    for slo in slos:
        applies, met = within(columns, slo)
        good &= met | ~applies
    return good


def judge_slo(columns: Columns, slo: Slo, confidence: float) -> SloResult:
    """The verdict on one SLO."""
    applies, met = within(columns, slo)
    rows = columns.is_counted & applies
    values = np.where(columns.is_ok, _milliseconds(columns, slo), np.inf)[rows]
    values = np.where(np.isnan(values), np.inf, values)
    requests, misses = int(rows.sum()), int((~met[rows]).sum())
    certain = _certain_misses(columns, slo)
    dependence = weigh(values, slo.bound_ms, slo.quantile, certain)
    worth = dependence.effective / requests if dependence else 1.0
    verdict = counted_only = decide(misses, requests, slo.quantile, confidence, worth)
    if verdict == "PASS" and decide(misses + certain, requests + certain, slo.quantile, confidence, worth) != "PASS":
        verdict = "INCONCLUSIVE"
    observed, lower, upper = _bounds(np.sort(values), slo.quantile, confidence, worth)
    return SloResult(
        slo=slo,
        label=slo.label,
        verdict=verdict,
        requests=requests,
        misses=misses,
        errors=int(columns.is_error[rows].sum()),
        undefined=int((columns.measured & columns.is_ok & ~applies).sum()),
        certain_misses=certain,
        observed_ms=observed,
        lower_ms=lower,
        upper_ms=upper,
        outlook=outlook(misses, requests, slo.quantile, confidence, worth) if counted_only == "INCONCLUSIVE" else None,
        dependence=dependence,
    )


def _milliseconds(columns: Columns, slo: Slo) -> Floats:
    return columns.latency_s(slo.metric, slo.since) * 1e3


def _certain_misses(columns: Columns, slo: Slo) -> int:
    """How many of the requests that were cut off were beyond the bound; of TPOT it cannot be known."""
    waited = (columns.end_s - columns.start_s(slo.since)) * 1e3
    known = _milliseconds(columns, slo)
    if slo.metric == "ttft":
        known = np.where(np.isnan(known), waited, known)
    beyond = known > slo.bound_ms if slo.metric != "tpot" else np.zeros(len(columns), np.bool_)
    return int((columns.is_cut_off & beyond).sum())


def _bounds(
    ordered: Floats, quantile: float, confidence: float, worth: float
) -> tuple[float | None, float | None, float | None]:
    """The quantile of ``ordered`` [n] and its one-sided bounds."""
    count = len(ordered)
    if not count:
        return None, None, None
    lower, upper = interval_ranks(count, quantile, complement(confidence), worth)
    picked = [
        None if rank is None else float(ordered[rank - 1]) for rank in (quantile_rank(count, quantile), lower, upper)
    ]
    observed, low, high = (value if value is not None and np.isfinite(value) else None for value in picked)
    return observed, low, high


__all__ = ["SloResult", "good_requests", "judge_slo", "within"]
