"""A search on a terminal: what it will take, a line per point, the answer."""

from collections.abc import Iterator

import click

from slipstream.loadtest.capacity.findings import Point, Word
from slipstream.loadtest.capacity.outcome import Capacity, per_second
from slipstream.loadtest.capacity.points import first_rate
from slipstream.loadtest.capacity.record import CapacityFolder, Conditions
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.results.slos import SloResult
from slipstream.loadtest.scenario import Scenario

_COLOURS: dict[str, str] = {
    "held": "green", "refuted": "red", "open": "yellow", "void": "magenta", "unfinished": "yellow",
    "FOUND": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "VOID": "magenta",
}  # fmt: skip
_HEADS = ("point", "rate/s", "done/s", "requests", "p95 TTFT", "p95 TPOT", "tokens/s", "good/s")


def before(given: Conditions, least_s: float, most_s: float) -> str:
    """What the search will do, and about how long it takes."""
    rate = first_rate(given.scenario)
    return (
        f"searching from {per_second(rate)} on: points of {given.size.requests_at(rate)} requests, about "
        f"{_time(given.size.length_s(rate, given.scenario.warmup))} each; {_time(least_s)} to {_time(most_s)} in all "
        f"if the answer is near, at most {_time(given.max_time_s)} (--max-time)"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def head(scenario: Scenario) -> str:
    """The heads of the columns of `row`; latencies in milliseconds."""
    return "".join(f"{name:>10}" for name in _HEADS) + f"  finding ({', '.join(slo.label for slo in scenario.slos)})"


def row(point: Point) -> str:
    """One line."""
    metrics = point.result.metrics
    rates = metrics.rates
    since = next((slo.since for slo in point.scenario.slos if slo.metric == "ttft"), "scheduled")
    p95 = [
        number(metrics.latencies[key].at(0.95).value) if key in metrics.latencies else "–"
        for key in ("ttft_scheduled" if since == "scheduled" else "ttft", "tpot")
    ]
    cells = (
        str(point.begun.number), number(point.rate), number(rates.requests_per_s if rates else None),
        f"{metrics.counts.counted}/{point.planned}", *p95, number(rates.output_tokens_per_s if rates else None),
        number(rates.goodput_per_s if rates else None),
    )  # fmt: skip
    word = click.style(point.word, fg=_COLOURS[point.word])
    return "".join(f"{cell:>10}" for cell in cells) + f"  {word}: {why(point)}"


def why(point: Point) -> str:
    """What the finding rests on."""
    misses = ", ".join(missed(slo) for slo in point.result.slos)
    reasons: dict[Word, str] = {
        "void": "; ".join(check.message for check in point.result.void_because),
        "unfinished": f"it was stopped; {misses}",
    }
    said = [reasons.get(point.word, misses)]
    if kinds := point.result.metrics.counts.errors_by_kind:
        said.append("failed: " + ", ".join(f"{many} {kind.replace('_', ' ')}" for kind, many in kinds.items()))
    if point.is_saturated and point.growth is not None:
        said.append(
            f"saturated, in flight {point.growth.first_in_flight:.0f} → {point.growth.last_in_flight:.0f}, "
            f"TTFT {point.growth.first_ttft_s:.2g} → {point.growth.last_ttft_s:.2g} s"
        )
    if point.begun.stopped is not None and point.stopped_s is not None:
        said.append(f"stopped after {point.stopped_s:.0f} s")
    return "; ".join(said)


def missed(slo: SloResult) -> str:
    """How many, and as how many independent ones they count where they depend on each other."""
    counted = f" (alike, count as {slo.independent:,.0f})" if slo.dependence is not None else ""
    return f"{slo.misses:,} of {slo.requests:,} missed{counted}"


def closing(found: Capacity, folder: CapacityFolder) -> Iterator[str]:
    """The answer and where it is kept."""
    yield ""
    yield click.style(found.verdict, fg=_COLOURS[found.verdict], bold=True)
    yield f"  {found.sentence}"
    if found.ended:
        yield f"  ended early: {found.ended}"
        yield f"  go on: slipstream loadtest --find-capacity --from {folder.root}"
    yield ""
    yield f"report   {folder.report}"
    yield f"points   {folder.record}"


__all__ = ["before", "closing", "head", "missed", "row", "why"]
