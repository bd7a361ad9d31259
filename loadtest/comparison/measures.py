"""What is compared: the numbers that one run comes to, and which of them B is held to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from slipstream.loadtest.report.latency import since_of
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.scenario import Metric, Scenario

Values: TypeAlias = Mapping[str, float | None]
"""Of one run, by `Measure.key`; None where it has no such number."""

MOST_MORE_ERRORS = 0.01
"""Share of the requests that may fail beyond A's, where the margin allows no less: 5% more failures are not slower."""


@dataclass(frozen=True)
class Measure:
    """One number of a run.

    Attributes:
        unit: of the runs' numbers; a share is 0..1 there and is shown in percent.
        better: which way is good; a mean output length should stay as it is.
        relative: whether its effect is ``B / A - 1``; else it is ``B - A``, of shares in points.
        held: whether B is held to it. The others are shown: they say the same again, or follow from the load.
        wins: whether a gain in it can make B the better one. What shorter answers improve by themselves cannot.
    """

    key: str
    name: str
    unit: str
    better: Literal["less", "more", "same"]
    relative: bool = True
    held: bool = True
    wins: bool = False

    def margin(self, margin: float) -> float:
        """How much worse B may be, as a share of A's or in points; ``margin`` is the comparison's."""
        return min(margin, MOST_MORE_ERRORS) if self.key == "error_share" else margin


MEASURES = (
    Measure("ttft_p50", "TTFT p50", "ms", "less", wins=True),
    Measure("ttft_p95", "TTFT p95", "ms", "less", wins=True),
    Measure("tpot_p50", "TPOT p50", "ms", "less", wins=True),
    Measure("tpot_p95", "TPOT p95", "ms", "less", wins=True),
    Measure("itl_p95", "ITL p95", "ms", "less", held=False),
    Measure("e2e_p50", "End-to-end p50", "ms", "less", held=False),
    Measure("e2e_p95", "End-to-end p95", "ms", "less"),
    Measure("output_tokens_per_s", "Output tokens/s", "tokens/s", "more", wins=True),
    Measure("requests_per_s", "Requests/s", "requests/s", "more", held=False),
    Measure("goodput_per_s", "Goodput", "requests/s", "more", held=False),
    Measure("good_share", "Requests within every SLO", "share", "more", relative=False),
    Measure("error_share", "Failed requests", "share", "less", relative=False, wins=True),
    Measure("golden_pass_rate", "Golden questions passed", "share", "more", relative=False),
    Measure("golden_text_rate", "Golden questions passed", "share", "more", relative=False),
    Measure("output_tokens", "Output length, mean", "tokens", "same"),
)
BY_KEY = {measure.key: measure for measure in MEASURES}
QUALITY = frozenset({"golden_pass_rate", "golden_text_rate", "output_tokens"})


def values_of(scenario: Scenario, result: Result) -> dict[str, float | None]:
    """What a run came to, but for its golden questions; latencies in ms, TTFT and end-to-end since `since_of`."""
    metrics, rates, counts = result.metrics, result.metrics.rates, result.metrics.counts
    values: dict[str, float | None] = {}
    wanted: tuple[tuple[Metric, float], ...] = (
        ("ttft", 0.5), ("ttft", 0.95), ("tpot", 0.5), ("tpot", 0.95), ("itl", 0.95), ("e2e", 0.5), ("e2e", 0.95),
    )  # fmt: skip
    for metric, level in wanted:
        found = metrics.latencies.get(_key(scenario, metric))
        values[f"{metric}_p{level * 100:g}"] = None if found is None else found.at(level).value
    values["output_tokens_per_s"] = None if rates is None else rates.output_tokens_per_s
    values["requests_per_s"] = None if rates is None else rates.requests_per_s
    values["goodput_per_s"] = None if rates is None else rates.goodput_per_s
    values["good_share"] = result.good_share
    values["error_share"] = counts.error_share
    values["output_tokens"] = metrics.tokens.output / counts.ok if counts.ok and metrics.tokens.output else None
    return values


def _key(scenario: Scenario, metric: Metric) -> str:
    """Which of the latencies; of ITL every gap."""
    from_schedule = metric in ("ttft", "e2e") and since_of(scenario, metric) == "scheduled"
    return f"{metric}_scheduled" if from_schedule else metric


__all__ = ["BY_KEY", "MEASURES", "MOST_MORE_ERRORS", "QUALITY", "Measure", "Values", "values_of"]
