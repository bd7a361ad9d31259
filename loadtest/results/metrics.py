"""What a run measured: latencies with their intervals, rates, goodput, errors by kind, tokens, stages.

Latency distributions are those of the requests that were due in the measured window and succeeded; an error has no
latency, it is counted by its kind and misses every SLO. Percentiles carry distribution-free intervals of the scenario's
confidence, two-sided. They are exact for independent requests; `SloResult.dependence` says how far these are.
"""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.results.columns import Booleans, Columns
from slipstream.loadtest.results.window import Rates, Whole, Window, rates, whole
from slipstream.loadtest.sample import NOT_COUNTED, OUTCOMES
from slipstream.loadtest.statistics.binomial import share_interval
from slipstream.loadtest.statistics.order import (
    Floats,
    Integers,
    Percentile,
    clustered_percentile,
    percentile,
    quantile_rank,
)

LEVELS = (0.5, 0.9, 0.95, 0.99)
_SLOW = 0.95  # the slow tail: at or above this quantile of end-to-end


@dataclass(frozen=True)
class Distribution:
    """Of ``count`` values, in milliseconds unless the name it goes by says otherwise."""

    count: int
    mean: float
    least: float
    most: float
    percentiles: tuple[Percentile, ...]

    def at(self, level: float) -> Percentile:
        """The percentile of one of `LEVELS`."""
        return next(one for one in self.percentiles if one.level == level)


@dataclass(frozen=True)
class Counts:
    """Requests that were due in the window.

    Attributes:
        measured: all of them.
        counted: those that say something about the server: ``ok`` and ``errors``.
        errors_by_kind: how many failed by outcome, none that did not occur.
        not_counted: how many went away as planned or were cut off, by outcome.
        error_share: of the counted; None without any. Its interval is Clopper and Pearson's.
        warmup: requests due before the window.
    """

    measured: int
    counted: int
    ok: int
    errors: int
    errors_by_kind: dict[str, int]
    not_counted: dict[str, int]
    error_share: float | None
    error_share_low: float | None
    error_share_high: float | None
    warmup: int


@dataclass(frozen=True)
class Tokens:
    """Of the measured requests that succeeded.

    Attributes:
        prompt: what `usage` says, summed.
        output: what `usage` says, summed; where it says nothing, what the tokenizer counted.
        without_usage: requests of which `usage` says nothing.
        per_chunk: output tokens per content chunk; None without chunks. Above 1 a gap (ITL) holds several tokens.
    """

    prompt: int
    output: int
    without_usage: int
    per_chunk: float | None


@dataclass(frozen=True)
class Stage:
    """The server's own time of one stage, over the measured requests that succeeded and told it.

    ``slow_tail_ms`` is the mean over the slowest twentieth of the requests, end-to-end.
    """

    milliseconds: Distribution
    slow_tail_ms: float | None


@dataclass(frozen=True)
class Metrics:
    """Everything that was measured; ``latencies`` in milliseconds.

    Its keys are ``ttft``, ``tpot``, ``e2e`` (from the sent moment), ``ttft_scheduled``, ``e2e_scheduled``, ``itl``
    (every gap of every request), ``itl_largest`` (one per request), ``lag`` (sent - scheduled, of failed requests
    too) and ``connect`` (of those that had to). A key whose metric no request has is not there.
    """

    window: Window
    counts: Counts
    rates: Rates | None
    whole: Whole | None
    latencies: dict[str, Distribution]
    tokens: Tokens
    stages: dict[str, Stage]


def measure(columns: Columns, window: Window, good: Booleans | None, confidence: float) -> Metrics:
    """All metrics of a run.

    Args:
        good: whether each request met all SLOs [n]; None without SLOs.
        confidence: of the intervals.
    """
    return Metrics(
        window=window,
        counts=_counts(columns, confidence),
        rates=rates(window, columns, good),
        whole=whole(window, columns),
        latencies=_latencies(columns, confidence),
        tokens=_tokens(columns),
        stages=_stages(columns, confidence),
    )


def distribution(values: Floats, confidence: float, owners: Integers | None = None) -> Distribution | None:
    """Of the values [n] that are numbers; None where none is.

    Args:
        owners: which values depend on each other [n]; None: none do.
    """
    known = np.isfinite(values)
    values = values[known]
    if not len(values):
        return None
    if owners is None:
        ordered = np.sort(values)
        percentiles = tuple(percentile(ordered, level, confidence) for level in LEVELS)
    else:
        order = np.argsort(values)
        ordered, owners = values[order], owners[known][order]
        percentiles = tuple(clustered_percentile(ordered, owners, level, confidence) for level in LEVELS)
    return Distribution(len(values), float(values.mean()), float(ordered[0]), float(ordered[-1]), percentiles)


def _counts(columns: Columns, confidence: float) -> Counts:
    found = np.bincount(columns.outcome[columns.measured], minlength=len(OUTCOMES))
    by_kind: dict[str, int] = {outcome: int(number) for outcome, number in zip(OUTCOMES, found, strict=True) if number}
    ok = by_kind.pop("ok", 0)
    not_counted: dict[str, int] = {
        outcome: by_kind.pop(outcome) for outcome in sorted(NOT_COUNTED) if by_kind.get(outcome)
    }
    errors = sum(by_kind.values())
    counted = ok + errors
    low, high = share_interval(errors, counted, confidence) if counted else (None, None)
    return Counts(
        measured=int(columns.measured.sum()),
        counted=counted,
        ok=ok,
        errors=errors,
        errors_by_kind=by_kind,
        not_counted=not_counted,
        error_share=errors / counted if counted else None,
        error_share_low=low,
        error_share_high=high,
        warmup=int((~columns.measured).sum()),
    )


def _latencies(columns: Columns, confidence: float) -> dict[str, Distribution]:
    done = columns.measured & columns.is_ok
    per_request = {
        "ttft": columns.latency_s("ttft", "sent")[done],
        "ttft_scheduled": columns.latency_s("ttft", "scheduled")[done],
        "tpot": columns.tpot_s[done],
        "itl_largest": columns.itl_s[done],
        "e2e": columns.latency_s("e2e", "sent")[done],
        "e2e_scheduled": columns.latency_s("e2e", "scheduled")[done],
        "lag": (columns.sent_s - columns.scheduled_s)[columns.measured],
        "connect": columns.connect_s[done & (columns.connect_s > 0)],
    }
    found = {name: distribution(values * 1e3, confidence) for name, values in per_request.items()}
    gaps, owners = columns.gaps_s
    kept = done[owners]
    found["itl"] = distribution(gaps[kept] * 1e3, confidence, owners[kept])
    return {name: one for name, one in found.items() if one is not None}


def _tokens(columns: Columns) -> Tokens:
    done = columns.measured & columns.is_ok
    chunked = done & (columns.chunks > 0) & np.isfinite(columns.tokens)
    chunks = int(columns.chunks[chunked].sum())
    return Tokens(
        prompt=int(np.nansum(columns.prompt_tokens[done])),
        output=int(np.nansum(columns.tokens[done])),
        without_usage=int(np.isnan(columns.output_tokens[done]).sum()),
        per_chunk=float(columns.tokens[chunked].sum() / chunks) if chunks and columns.streamed else None,
    )


def _stages(columns: Columns, confidence: float) -> dict[str, Stage]:
    done = columns.measured & columns.is_ok
    if not done.any():
        return {}
    durations = columns.latency_s("e2e", "sent")[done]
    slow = durations >= np.sort(durations)[quantile_rank(len(durations), _SLOW) - 1]
    stages = {}
    for name, seconds in columns.stages_s.items():
        told = seconds[done] * 1e3
        if (found := distribution(told, confidence)) is not None:
            tail = told[slow & np.isfinite(told)]
            stages[name] = Stage(found, float(tail.mean()) if len(tail) else None)
    return stages


__all__ = ["LEVELS", "Counts", "Distribution", "Metrics", "Stage", "Tokens", "distribution", "measure"]
