"""The charts of a comparison: effects against the margin, rounds side by side, distributions over one another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.comparison.measures import BY_KEY, Measure
from slipstream.loadtest.comparison.output.wording import change_text, effect_text, interval_text, value_text
from slipstream.loadtest.comparison.record import Record
from slipstream.loadtest.comparison.sides import Letter
from slipstream.loadtest.comparison.verdict import Compared, Outcome, Word
from slipstream.loadtest.report.drawing.charts import Axis, Chart, Line, Mark, Points, Rule, Shape
from slipstream.loadtest.report.drawing.intervals import Interval, Intervals
from slipstream.loadtest.report.drawing.page import BarFigure, Block, Figure, Table, Tone
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.drawing.thinning import thin_steps
from slipstream.loadtest.report.latency import NAMES, is_wide, since_of, slo_of
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.scenario import Metric
from slipstream.loadtest.statistics.order import Floats

TONES: dict[Word, Tone] = {"better": "good", "no worse": "good", "open": "open", "worse": "bad", "shown": "plain"}
_REACH = 4.0  # margins to each side
_LETTERS: tuple[Letter, Letter] = ("A", "B")
_SHAPES: dict[Letter, Shape] = {"A": "dot", "B": "diamond"}
_ROUNDS_SHOWN = (
    "ttft_p95", "tpot_p95", "e2e_p95", "output_tokens_per_s", "golden_pass_rate", "golden_text_rate", "output_tokens",
)  # fmt: skip


def effect_figure(outcome: Outcome) -> Block:
    """A forest plot: every effect in units of its margin, so that all share one axis; right is worse."""
    rows = tuple(_interval(one) for one in outcome.compared)
    label = f"effects of B against A: {', '.join(effect_text(one) for one in outcome.compared if one.measure.held)}"
    ends = (f"← better, by {_REACH:g} margins", "no change", "worse →")
    note = (
        f"Each row is drawn in units of its own margin (dashed; shaded beyond). Thick: 95% interval; it has to end "
        f"before the margin for “no worse”. Thin: {percent(round(outcome.sure_confidence, 4))} interval; it has to lie "
        f"beyond the margin for “worse”, so that all held metrics together err in at most 5% of comparisons of equals. "
        f"What lies outside ends at the edge. Grey rows are not held. The output length must not move to either side."
    )
    return BarFigure("Effect of B against A", Intervals(label, rows, _REACH, ends), note)


def _interval(one: Compared) -> Interval:
    def drawn(value: float | None) -> float | None:
        return None if value is None else one.harm(value) / one.margin

    def ends(low: float | None, high: float | None) -> tuple[float | None, float | None]:
        known = sorted(end for end in (drawn(low), drawn(high)) if end is not None)
        return (known[0], known[1]) if len(known) == 2 else (None, None)

    word = one.word if one.measure.held else "not held"
    change = change_text(one.measure, one.effect.value)
    interval = interval_text(one.measure, one.effect.low, one.effect.high)
    bounds = (-1.0, 1.0) if one.measure.better == "same" else (1.0,)
    return Interval(
        one.measure.name,
        drawn(one.effect.value),
        *ends(one.effect.low, one.effect.high),
        *ends(one.sure_low, one.sure_high),
        TONES[one.word],
        f"{change} {interval} {word}",
        f"{change}, 95% interval {interval}: {word}",
        bounds,
    )


def round_figures(record: Record) -> list[Figure]:
    """What each round's two runs came to, for the metrics that every run has."""
    pairs = record.pairs()
    found: list[Figure] = []
    for key in _ROUNDS_SHOWN:
        if key == "golden_text_rate" and any(figure.title == BY_KEY[key].name for figure in found):
            continue  # citations were judged
        values = {
            letter: [run.values.get(key) for run in runs]
            for letter, runs in zip(_LETTERS, zip(*pairs, strict=True), strict=True)
        }
        known = {letter: [one for one in some if one is not None] for letter, some in values.items()}
        if all(len(some) == len(pairs) for some in known.values()):
            found.append(_round_figure(BY_KEY[key], [a.round for a, _ in pairs], known))
    return found


def _round_figure(measure: Measure, rounds: Sequence[int], values: dict[Letter, list[float]]) -> Figure:
    x, marks = np.array(rounds, np.float64), list[Mark]()
    scale = 100.0 if measure.unit == "share" else 1.0
    for tone, letter in enumerate(_LETTERS, 1):
        y = np.array(values[letter]) * scale
        told = [
            f"{letter}, round {place}: {value_text(measure, one)}"
            for place, one in zip(rounds, values[letter], strict=True)
        ]
        marks += [Line(letter, x, y, tone), Points("", x, y, tone, _SHAPES[letter], told)]
    unit = "%" if measure.unit == "share" else measure.unit
    means = " and ".join(f"{letter} {value_text(measure, float(np.mean(values[letter])))}" for letter in _LETTERS)
    label = f"{measure.name} by round; on average {means}"
    chart = Chart(label, Axis("round", least=None, text=_whole), Axis(unit), tuple(marks))
    rows = [
        (str(place), *(value_text(measure, values[letter][row]) for letter in _LETTERS))
        for row, place in enumerate(rounds)
    ]
    table = Table(f"{measure.name} by round", ("round", "A", "B"), rows, frozenset({1, 2}), folded=True)
    return Figure(measure.name, chart, "", table)


def _whole(value: float) -> str:
    """Rounds are whole, so nothing stands at the ticks between them."""
    return f"{value:g}" if float(value).is_integer() else ""


@dataclass(frozen=True)
class Pool:
    """All measured requests of one side's complete runs."""

    letter: Letter
    columns: Sequence[Columns]

    def latencies_ms(self, metric: Metric, record: Record) -> tuple[Floats, int]:
        """Of those that succeeded, sorted; and how many failed."""
        since = since_of(record.scenario, metric)
        found = [one.latency_s(metric, since)[one.measured & one.is_ok] * 1e3 for one in self.columns]
        values = np.concatenate([np.zeros(0), *found])
        failed = sum(int((one.measured & one.is_error).sum()) for one in self.columns)
        return np.sort(values[np.isfinite(values)]), failed


def pools(record: Record) -> list[Pool]:
    """The samples of both sides, read from the folders of the complete rounds."""
    return [
        Pool(letter, [_columns(record, pair[place].folder) for pair in record.pairs()])
        for place, letter in enumerate(_LETTERS)
    ]


def _columns(record: Record, folder: str) -> Columns:
    path = record.root / folder / "samples.jsonl"
    return Columns.of(read_samples(path) if path.is_file() else (), streamed=record.scenario.stream)


def cdf_figures(record: Record, sides: Sequence[Pool]) -> list[Block]:
    """A and B over one another with the SLO, all rounds together."""
    return [figure for metric in ("ttft", "tpot", "e2e") for figure in _cdf(record, sides, metric)]


def _cdf(record: Record, sides: Sequence[Pool], metric: Metric) -> Iterator[Figure]:
    marks, rows = list[Mark](), list[tuple[str, ...]]()
    name, since = NAMES[metric], since_of(record.scenario, metric)
    every = list[Floats]()
    for tone, side in enumerate(sides, 1):
        ordered, failed = side.latencies_ms(metric, record)
        if not len(ordered):
            continue
        shown = thin_steps(len(ordered))
        share = (shown + 1) / (len(ordered) + failed) * 100
        marks.append(Line(f"{side.letter} {record.side(side.letter).name}", ordered[shown], share, tone))
        every.append(ordered)
        levels = (0.5, 0.9, 0.95, 0.99)
        at = [number(float(np.quantile(ordered, level, method="inverted_cdf"))) for level in levels]
        rows.append((side.letter, f"{len(ordered):,}", f"{failed:,}", *at))
    if not marks:
        return
    slo = slo_of(record.scenario, metric)
    if slo:
        marks += [
            Rule("x", slo.bound_ms, f"≤ {slo.bound_ms:g} ms", "start"),
            Rule("y", 100 * slo.quantile, "", "start"),
        ]
    ends = f" since {since}" if metric in ("ttft", "e2e") else ""
    x = Axis(f"{name}{ends}, ms", log=is_wide(np.concatenate(every)))
    medians = " and ".join(f"{row[0]} {row[3]} ms" for row in rows)
    chart = Chart(f"{name}: medians {medians}", x, Axis("requests within, %", most=100.0), tuple(marks))
    heads = ("", "requests", "failed", "p50, ms", "p90, ms", "p95, ms", "p99, ms")
    table = Table(f"{name}, all rounds together", heads, rows, frozenset(range(1, 7)), folded=True)
    yield Figure(name, chart, "Failed requests never get there." if any(row[2] != "0" for row in rows) else "", table)


__all__ = ["TONES", "Pool", "cdf_figures", "effect_figure", "pools", "round_figures"]
