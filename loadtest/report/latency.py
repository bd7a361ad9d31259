"""Latency over the time of a run."""

import numpy as np

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.drawing.charts import Axis, Band, Chart, Hover, Line, Mark, Points, Rule
from slipstream.loadtest.report.drawing.page import Block, Figure, Note, Table
from slipstream.loadtest.report.drawing.scales import number
from slipstream.loadtest.report.drawing.thinning import thin_points
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.window import Window
from slipstream.loadtest.sample import OUTCOMES
from slipstream.loadtest.scenario import Metric, Scenario, Slo, Start
from slipstream.loadtest.statistics.order import Floats, Integers, quantile_rank

NAMES: dict[Metric, str] = {"ttft": "TTFT", "tpot": "TPOT", "itl": "Largest ITL", "e2e": "End-to-end"}
_MOST_TOLD = 5
_MOST_CROSSES = 120


def slo_of(scenario: Scenario, metric: Metric) -> Slo | None:
    """The first SLO on ``metric``."""
    return next((slo for slo in scenario.slos if slo.metric == metric), None)


def since_of(scenario: Scenario, metric: Metric) -> Start:
    """From when ``metric`` counts: as its SLO says, else from the moment at which the request was due."""
    slo = slo_of(scenario, metric)
    return slo.since if slo else "scheduled"


def is_wide(values: Floats) -> bool:
    """Whether the values lie so far apart that only a logarithmic axis shows both ends."""
    known = values[np.isfinite(values) & (values > 0)]
    return len(known) > 1 and float(known.max()) > 25 * float(np.median(known))


def latency_figures(scenario: Scenario, columns: Columns, bins: Bins, window: Window) -> list[Block]:
    """TTFT, TPOT and end-to-end of the requests *due* in each bin: so a stall shows at whom it hit."""
    metrics: tuple[Metric, ...] = ("ttft", "tpot", "e2e")
    found: list[Block] = []
    for metric in metrics:
        values = np.where(columns.is_ok, columns.latency_s(metric, since_of(scenario, metric)), np.nan) * 1e3
        if np.isfinite(values).any():
            found.append(_latency_figure(scenario, columns, bins, window, metric, values))
    return found or [Note("No request succeeded, so there are no latencies.")]


def _latency_figure(
    scenario: Scenario, columns: Columns, bins: Bins, window: Window, metric: Metric, values: Floats
) -> Figure:
    since, slo = since_of(scenario, metric), slo_of(scenario, metric)
    p50, p95, largest, counts = _bin_percentiles(bins, columns.scheduled_s, values)
    at = columns.scheduled_s / bins.unit[0]
    log = is_wide(values)
    shown = thin_points(at, values)
    failed = _bin_errors(bins, columns)
    numbers = [[number(float(value)) for value in one] for one in (p50, p95, largest)]
    rows = list(zip(bins.names(), map(str, counts.tolist()), *numbers, (one or "0" for one in failed), strict=True))
    marks: list[Mark] = [
        *bins.warmup(window),
        Band("p50 to p95", bins.middles, p50, p95, 1),
        Points("request", at[shown], values[shown], 6, faint=True),
        Line("p50", bins.middles, p50, 1),
        Line("p95", bins.middles, p95, 1, dashed=True),
        *([Rule("y", slo.bound_ms, slo.label)] if slo else []),
        Hover(bins.edges, [_told(*row) for row in rows]),
        *_error_marks(bins, columns, values, slo, log=log),
        _slowest(columns, bins, values),
    ]
    name = NAMES[metric]
    label = f"{name} over time: p50 {span(p50)} ms, p95 {span(p95)} ms"
    heads = ("due", "requests", "p50, ms", "p95, ms", "max, ms", "failed")
    return Figure(
        title=f"{name} {f'since {since}' if metric in ('ttft', 'e2e') else 'per output token after the first'}",
        chart=Chart(label, bins.axis, Axis(f"{name}, ms", log=log), tuple(marks)),
        note=drawn_of(len(shown), int(np.isfinite(values).sum())),
        table=Table(f"{name} by time", heads, rows, frozenset({1, 2, 3, 4}), folded=True),
        wide=True,
    )


def _told(due: str, count: str, p50: str, p95: str, largest: str, failed: str) -> str:
    kinds = f"\nfailed: {failed}" if failed != "0" else ""
    return f"{due}: {count} requests\np50 {p50}, p95 {p95}, max {largest} ms{kinds}"


def drawn_of(drawn: int, known: int) -> str:
    """That not every request is drawn, where that is so."""
    return f"{drawn:,} of {known:,} requests are drawn, the extremes among them." if drawn < known else ""


def span(values: Floats) -> str:
    known = values[np.isfinite(values)]
    return f"{number(float(known.min()))} to {number(float(known.max()))}" if len(known) else "unknown"


def _bin_percentiles(bins: Bins, due_s: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Integers]:
    """p50, p95, largest and number of the values of each bin."""
    places = bins.places(due_s)
    known = np.isfinite(values) & (places < len(bins))
    ordered = values[known][np.lexsort((values[known], places[known]))]
    counts = np.bincount(places[known], minlength=len(bins))
    starts = np.cumsum(counts) - counts
    found = np.full((3, len(bins)), np.nan)
    for place in np.flatnonzero(counts).tolist():
        start, count = int(starts[place]), int(counts[place])
        ranks = (quantile_rank(count, 0.5), quantile_rank(count, 0.95), count)
        found[:, place] = [ordered[start + rank - 1] for rank in ranks]
    return found[0], found[1], found[2], counts


def _bin_errors(bins: Bins, columns: Columns) -> list[str]:
    """What failed of the requests due in each bin, in words."""
    places = bins.places(columns.scheduled_s)
    words: list[list[str]] = [[] for _ in range(len(bins))]
    for code in np.unique(columns.outcome[columns.is_error]).tolist():
        counts = np.bincount(places[columns.outcome == code], minlength=len(bins) + 1)[: len(bins)]
        for place in np.flatnonzero(counts).tolist():
            words[place].append(f"{counts[place]} {OUTCOMES[code]}")
    return [", ".join(one) for one in words]


def _error_marks(bins: Bins, columns: Columns, values: Floats, slo: Slo | None, *, log: bool) -> list[Mark]:
    """A cross at the upper edge wherever a request failed: it has no latency, and taking forever is its nearest.

    Where many failed, one cross stands for those of its bin.
    """
    at = columns.scheduled_s[columns.is_error] / bins.unit[0]
    at = at[np.isfinite(at)]
    if not len(at):
        return []
    known = values[np.isfinite(values)]
    edge = max(float(known.max()), slo.bound_ms * (1.0 if log else 1.05) if slo else 0.0) * (1.15 if log else 1.04)
    if len(at) > _MOST_CROSSES:
        at = bins.middles[bins.counts(columns.scheduled_s[columns.is_error]) > 0]
    return [Points("failed", at, np.full(len(at), edge), 2, "cross")]


def _slowest(columns: Columns, bins: Bins, values: Floats) -> Points:
    """The slowest requests, which tell who they are."""
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(columns.scheduled_s))
    worst = known[np.argsort(values[known])[::-1][:_MOST_TOLD]]
    titles = [
        f"request {columns.index[row]}, due at {columns.scheduled_s[row]:.2f} s: {number(values[row])} ms, "
        f"{number(columns.prompt_tokens[row])} prompt and {number(columns.tokens[row])} output tokens"
        for row in worst.tolist()
    ]
    return Points("slowest", columns.scheduled_s[worst] / bins.unit[0], values[worst], 4, "diamond", titles)


__all__ = ["NAMES", "drawn_of", "is_wide", "latency_figures", "since_of", "slo_of", "span"]
