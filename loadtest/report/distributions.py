"""Latencies without their time: distributions against the SLOs, TTFT against prompt length, several rates."""

from collections.abc import Iterator, Sequence

import numpy as np

from slipstream.loadtest.report.drawing.charts import Axis, Chart, Line, Mark, Points, Rule, Shape
from slipstream.loadtest.report.drawing.page import Block, Figure, Note, Table
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.drawing.thinning import thin_points, thin_steps
from slipstream.loadtest.report.latency import NAMES, drawn_of, is_wide, since_of, slo_of
from slipstream.loadtest.report.records import RateRun
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.metrics import Distribution
from slipstream.loadtest.results.slos import SloResult
from slipstream.loadtest.results.verdict import Result, RunVerdict
from slipstream.loadtest.results.window import Rates
from slipstream.loadtest.scenario import Metric, Scenario
from slipstream.loadtest.statistics.order import Floats

_METRICS: tuple[Metric, ...] = ("ttft", "tpot", "itl", "e2e")
_KEYS = {
    "ttft_scheduled": "TTFT since scheduled", "ttft": "TTFT since sent", "tpot": "TPOT", "itl": "ITL, every gap",
    "itl_largest": "ITL, largest of each request", "e2e_scheduled": "End-to-end since scheduled",
    "e2e": "End-to-end since sent", "connect": "Connecting", "lag": "Generator lag (sent - scheduled)",
}  # fmt: skip


def percentile_table(result: Result) -> Block:
    """Every latency with the intervals of its percentiles."""
    found = [(name, result.metrics.latencies[key]) for key, name in _KEYS.items() if key in result.metrics.latencies]
    if not found:
        return Note("No request succeeded, so there are no percentiles.")
    rows = [_percentile_row(name, one) for name, one in found]
    heads = ("ms", "n", *(f"p{percentile.level * 100:g}" for percentile in found[0][1].percentiles), "max", "mean")
    caption = f"Latencies, ms, with intervals of {percent(result.confidence)} from order statistics"
    return Table(caption, heads, rows, frozenset(range(1, len(heads))))


def _percentile_row(name: str, one: Distribution) -> list[str]:
    cells = [
        f"{number(p.value)}\n{'0' if p.low is None else number(p.low)} … {'∞' if p.high is None else number(p.high)}"
        for p in one.percentiles
    ]
    return [name, f"{one.count:,}", *cells, number(one.most), number(one.mean)]


def cdf_figures(scenario: Scenario, columns: Columns, result: Result) -> list[Block]:
    """One per metric, over the requests that count for it; one that failed never gets there."""
    if not result.metrics.latencies:
        return []  # the table of percentiles says why
    claimed = {slo.metric for slo in scenario.slos}
    metrics = [metric for metric in _METRICS if metric != "itl" or metric in claimed]
    found = [_cdf(scenario, columns, result, metric) for metric in metrics]
    return [figure for figure in found if figure is not None] or [
        Note("No request succeeded, so there are no distributions.")
    ]


def _cdf(scenario: Scenario, columns: Columns, result: Result, metric: Metric) -> Figure | None:
    since = since_of(scenario, metric)
    values = columns.latency_s(metric, since) * 1e3
    done = columns.measured & columns.is_ok & np.isfinite(values)
    ordered, failed = np.sort(values[done]), int((columns.measured & columns.is_error).sum())
    if not len(ordered):
        return None
    shown = thin_steps(len(ordered))
    reached = (shown + 1) / (len(ordered) + failed) * 100
    name = NAMES[metric]
    marks: list[Mark] = [Line("share of requests", *_stairs(ordered[shown], reached), 1)]
    verdict = next((one for one in result.slos if one.slo.metric == metric), None)
    if verdict:
        marks += _slo_marks(verdict, float(ordered[-1]))
    wide = is_wide(ordered)
    x = Axis(f"{name}{f' since {since}' if metric in ('ttft', 'e2e') else ''}, ms", log=wide)
    label = f"{name}: half of the requests within {number(float(ordered[(len(ordered) - 1) // 2]))} ms"
    note = f"{failed:,} failed requests never get there." if failed else ""
    levels = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
    rows = [(f"{level * 100:g}%", _reached_at(ordered, failed, level)) for level in levels]
    table = Table(f"{name}: shares", ("of requests", "within, ms"), rows, frozenset({1}), folded=True)
    return Figure(name, Chart(label, x, Axis("requests within, %", most=100.0), tuple(marks)), note, table)


def _reached_at(ordered: Floats, failed: int, level: float) -> str:
    rank = max(1, int(np.ceil(level * (len(ordered) + failed) - 1e-9)))
    return number(float(ordered[rank - 1])) if rank <= len(ordered) else "never"


def _stairs(values: Floats, reached: Floats) -> tuple[Floats, Floats]:
    """A step at each value."""
    before = np.concatenate(
        [[reached[0] - (reached[1] - reached[0] if len(reached) > 1 else reached[0])], reached[:-1]]
    )
    return np.repeat(values, 2), np.column_stack([np.maximum(before, 0.0), reached]).ravel()


def _slo_marks(found: SloResult, largest: float) -> list[Mark]:
    """The bound, the share that has to be within it, and between which bounds the true quantile lies."""
    slo = found.slo
    share = slo.quantile * 100
    marks: list[Mark] = [
        Rule("x", slo.bound_ms, f"≤ {slo.bound_ms:g} ms", "start"),
        Rule("y", share, f"{share:g}%", "start"),
    ]
    if found.lower_ms is not None:
        upper = largest if found.upper_ms is None else found.upper_ms
        across = np.array([found.lower_ms, upper])
        marks.append(Line("interval of the quantile", across, np.full(2, share), 2))
    return marks


def prompt_figures(scenario: Scenario, columns: Columns) -> list[Block]:
    """TTFT against prompt length."""
    since, slo = since_of(scenario, "ttft"), slo_of(scenario, "ttft")
    ttft = np.where(columns.measured & columns.is_ok, columns.latency_s("ttft", since), np.nan) * 1e3
    tokens = columns.prompt_tokens
    known = np.isfinite(ttft) & np.isfinite(tokens)
    if not scenario.stream:
        return [Note("The answers were not streamed, so there is no TTFT to set against the length of a prompt.")]
    if not known.any():
        return [Note("No answer says how many tokens its prompt had (`usage`), so TTFT cannot be set against it.")]
    tokens, ttft = tokens[known], ttft[known]
    edges = np.unique(np.quantile(tokens, np.linspace(0, 1, 9)))
    places = np.clip(np.searchsorted(edges, tokens, side="right") - 1, 0, max(len(edges) - 2, 0))
    middles, medians, rows = [], [], []
    for place in np.unique(places).tolist():
        inside = places == place
        middles.append(float(np.median(tokens[inside])))
        medians.append(_at(ttft[inside], 0.5))
        least, most = number(float(tokens[inside].min()), 9), number(float(tokens[inside].max()), 9)
        cells = number(medians[-1]), number(_at(ttft[inside], 0.95))
        rows.append((f"{least} to {most}", f"{inside.sum():,}", *cells))
    shown = thin_points(tokens, ttft)
    marks: list[Mark] = [
        Points("request", tokens[shown], ttft[shown], 6, faint=True),
        Line("median", np.array(middles), np.array(medians), 1),
    ]
    if slo:
        marks.append(Rule("y", slo.bound_ms, slo.label))
    ends = f"median {number(medians[0])} ms for the shortest, {number(medians[-1])} ms for the longest"
    label = f"TTFT against prompt length: {ends}"
    chart = Chart(label, Axis("prompt, tokens", least=None), Axis("TTFT, ms", log=is_wide(ttft)), tuple(marks))
    heads = ("prompt tokens", "requests", "median, ms", "p95, ms")
    table = Table("TTFT by prompt length", heads, rows, frozenset({1, 2, 3}), folded=True)
    note = drawn_of(len(shown), len(ttft))
    return [Figure(f"TTFT since {since} against prompt length", chart, note, table, wide=True)]


def _at(values: Floats, level: float) -> float:
    """The quantile as `statistics.order` defines it: one of the values."""
    return float(np.quantile(values, level, method="inverted_cdf"))


def rate_figures(scenario: Scenario, rates: Sequence[RateRun]) -> list[Block]:
    """`rate_charts`, and their numbers as a table."""
    heads = ("rate, requests/s", "verdict", "requests", "goodput/s", "output tokens/s", "p95 TTFT, ms", "p95 TPOT, ms")
    rows = [_rate_row(one) for one in rates]
    return [*rate_charts(scenario, rates), Table("Runs by rate", heads, rows, frozenset(range(2, len(heads))))]


def rate_charts(scenario: Scenario, rates: Sequence[RateRun]) -> list[Block]:
    """Throughput against latency: one curve per series, a point per rate; further right and lower is better."""
    found: list[Block] = []
    metrics: tuple[Metric, ...] = ("ttft", "tpot", "e2e")
    for metric in metrics:
        since = since_of(scenario, metric)
        key = f"{metric}_scheduled" if metric != "tpot" and since == "scheduled" else metric
        marks = _rate_marks(rates, key)
        if marks:
            slo, name = slo_of(scenario, metric), NAMES[metric]
            bound: list[Mark] = [Rule("y", slo.bound_ms, slo.label)] if slo else []
            values = np.concatenate([mark.y for mark in marks if isinstance(mark, Line)])
            label = f"p95 {name} against output tokens per second, {len(rates)} runs"
            axes = Axis("output tokens/s"), Axis(f"p95 {name}, ms", log=is_wide(values))
            found.append(Figure(f"p95 {name} against throughput", Chart(label, *axes, (*bound, *marks))))
    return found


def _rate_marks(rates: Sequence[RateRun], key: str) -> list[Mark]:
    series: dict[str, list[tuple[RateRun, Rates, float]]] = {}
    for one in sorted(rates, key=lambda one: one.offered_per_s):
        metrics = one.result.metrics
        if key in metrics.latencies and metrics.rates:
            series.setdefault(one.series, []).append((one, metrics.rates, metrics.latencies[key].at(0.95).value))
    marks: list[Mark] = []
    named: set[str] = set()
    for place, (name, runs) in enumerate(series.items()):
        x = np.array([found.output_tokens_per_s for _, found, _ in runs])
        y = np.array([height for _, _, height in runs])
        tone = place % 6 + 1
        marks.append(Line(name or "runs", x, y, tone))
        for word, shape, rows in _by_verdict([one for one, _, _ in runs]):
            told = [_rate_title(*runs[row]) for row in rows]
            marks.append(Points("" if word in named else word, x[rows], y[rows], tone, shape, told))
            named.add(word)
    return marks


def _by_verdict(runs: Sequence[RateRun]) -> Iterator[tuple[str, Shape, list[int]]]:
    verdicts = [one.result.verdict for one in runs]
    shapes: dict[RunVerdict | None, Shape] = {
        "PASS": "dot", None: "dot", "INCONCLUSIVE": "diamond", "FAIL": "cross", "VOID": "triangle",
    }  # fmt: skip
    for verdict, shape in shapes.items():
        rows = [row for row, one in enumerate(verdicts) if one == verdict]
        if rows:
            yield verdict or "no claim", shape, rows


def _rate_title(one: RateRun, rates: Rates, height: float) -> str:
    load = f"{one.series} {one.offered_per_s:g} requests/s".strip()
    return (
        f"{load}: {one.result.verdict or 'no claim'}, {number(rates.output_tokens_per_s)} tokens/s, {number(height)} ms"
    )


def _rate_row(one: RateRun) -> list[str]:
    metrics, rates = one.result.metrics, one.result.metrics.rates
    p95 = [
        number(metrics.latencies[key].at(0.95).value) if key in metrics.latencies else "–"
        for key in ("ttft_scheduled", "tpot")
    ]
    return [
        f"{one.series} {one.offered_per_s:g}".strip(), one.result.verdict or "no claim", f"{metrics.counts.counted:,}",
        number(rates.goodput_per_s if rates else None), number(rates.output_tokens_per_s if rates else None), *p95,
    ]  # fmt: skip


__all__ = ["cdf_figures", "percentile_table", "prompt_figures", "rate_charts", "rate_figures"]
