"""The report of a comparison: one HTML file that needs nothing else, in the look of a load test's."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import yaml

from slipstream.loadtest.comparison.measures import QUALITY
from slipstream.loadtest.comparison.output.figures import TONES, cdf_figures, effect_figure, pools, round_figures
from slipstream.loadtest.comparison.output.wording import (
    caveats,
    change_text,
    interval_text,
    margin_text,
    needs_text,
    sentence,
    value_text,
)  # fmt: skip
from slipstream.loadtest.comparison.record import Record, RunRecord
from slipstream.loadtest.comparison.sides import Side
from slipstream.loadtest.comparison.verdict import Compared, ComparisonVerdict, Outcome
from slipstream.loadtest.report.drawing.page import Block, Claim, Facts, Note, Page, Section, Source, Table, Tone
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.headline import load_in_words

_VERDICT_TONES: dict[ComparisonVerdict, Tone] = {
    "REGRESSION": "bad", "INCONCLUSIVE": "open", "NO WORSE": "good", "BETTER": "good",
}  # fmt: skip
_CLAIMED = ("worse", "open", "better", "no worse")


def render_comparison(record: Record, outcome: Outcome) -> str:
    """The file, from the record and the samples in its runs' folders."""
    sides = pools(record)
    sections = [
        Section("effects", "Effects", [effect_figure(outcome), _effects(outcome)]),
        Section("rounds", "Rounds", round_figures(record)),
        Section("distributions", "Distributions, all rounds together", cdf_figures(record, sides)),
        Section("quality", "Quality", _quality(record, outcome)),
        Section("runs", "Runs", [_runs(record)]),
        Section("configuration", "Configuration", _configuration(record, outcome)),
    ]
    return Page(
        title=f"Comparison {record.scenario.name}",
        word=outcome.verdict,
        tone=_VERDICT_TONES[outcome.verdict],
        sentence=sentence(record, outcome),
        subtitle=" · ".join((f"A {record.a.name}", f"B {record.b.name}", record.started_at)),
        notes=list(caveats(record, outcome)),
        claims=list(_claims(outcome)),
        sections=sections,
    ).html()


def _claims(outcome: Outcome) -> Iterator[Claim]:
    """A row for each held metric, what decides first."""
    for word in _CLAIMED:
        for one in outcome.compared:
            if one.word == word and one.measure.held:
                lost = one.measure.key.startswith("golden") and outcome.loses_quality
                notes = ["Significantly fewer: no gain in speed makes B the better one."] if lost else []
                yield Claim(word, TONES[one.word], one.measure.name, _found(one), notes)


def _found(one: Compared) -> str:
    effect, measure = one.effect, one.measure
    needs = f"; {needs_text(one)}" if one.word == "open" else ""
    return (
        f"{value_text(measure, effect.before)} → {value_text(measure, effect.after)}, "
        f"{change_text(measure, effect.value)} {interval_text(measure, effect.low, effect.high)}, "
        f"allowed {margin_text(one)}{needs}"
    )


def _effects(outcome: Outcome) -> Block:
    rows = [
        (
            one.measure.name, value_text(one.measure, one.effect.before), value_text(one.measure, one.effect.after),
            change_text(one.measure, one.effect.value),
            interval_text(one.measure, one.effect.low, one.effect.high),
            interval_text(one.measure, one.sure_low, one.sure_high),
            margin_text(one) if one.measure.held else "–", one.word if one.measure.held else "not held",
        )
        for one in outcome.compared
    ]  # fmt: skip
    sure = percent(round(outcome.sure_confidence, 4))
    heads = ("mean over the runs", "A", "B", "change", "95% interval", f"{sure} interval", "allowed", "")
    caption = f"Effects over {outcome.rounds} rounds: paired bootstrap, the pair of runs being the unit, seed fixed"
    return Table(caption, heads, rows, frozenset(range(1, 7)))


def _quality(record: Record, outcome: Outcome) -> list[Block]:
    found: list[Block] = []
    measured = [one for one in outcome.compared if one.measure.key in QUALITY]
    if not any(one.measure.key.startswith("golden") for one in measured):
        found.append(Note("No golden questions were asked: beside the speed stands the length alone."))
    rows: list[tuple[str, ...]] = [
        (one.measure.name, value_text(one.measure, one.effect.before), value_text(one.measure, one.effect.after))
        for one in measured
    ]
    built = [
        "–" if side.golden_at_build is None else f"{number(100 * side.golden_at_build)}%"
        for side in (record.a, record.b)
    ]
    if set(built) != {"–"}:
        rows.append(("Golden questions passed when it was built, by its own limits", *built))
    if rows:
        found.append(Table("What was answered", ("", "A", "B"), rows, frozenset({1, 2})))
    return [*found, *_questions(record)]


def _questions(record: Record) -> Iterator[Block]:
    """Questions that one side passes more often."""
    shares = [defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)]
    for pair in record.pairs():
        for side, run in zip(shares, pair, strict=True):
            for name, share in run.questions.items():
                side[name].append(share)
    means = {name: (fmean(shares[0][name]), fmean(shares[1][name])) for name in shares[0] if name in shares[1]}
    if not means:
        return
    other = sorted(((a - b, name) for name, (a, b) in means.items() if abs(a - b) > 1e-9), reverse=True)
    if not other:
        yield Note(f"Both pass the same of {len(means)} golden questions.")
        return
    rows = [(name, *(f"{100 * share:.0f}%" for share in means[name]), _points(-less)) for less, name in other]
    caption = f"Golden questions that one passes more often: {len(other)} of {len(means)}"
    yield Table(caption, ("question", "A passes", "B passes", "change"), rows, frozenset({1, 2, 3}))


def _points(change: float) -> str:
    return f"{'+' if change > 0 else '−'}{abs(100 * change):.0f} points"


def _runs(record: Record) -> Block:
    heads = ("round", "", "seed", "TTFT p95, ms", "TPOT p95, ms", "tokens/s", "failed", "took, s", "folder", "")
    rows = [
        (
            str(run.round), run.letter, str(run.seed), *_numbers(run), f"{run.took_s:.0f}", f"{run.folder}/report.html",
            run.status + (f": {run.reason}" if run.reason else ""),
        )
        for run in record.runs
    ]  # fmt: skip
    return Table("Every run in its order; its own report lies in its folder", heads, rows, frozenset(range(2, 8)))


def _numbers(run: RunRecord) -> list[str]:
    failed = run.values.get("error_share")
    shown = [number(run.values.get(key)) for key in ("ttft_p95", "tpot_p95", "output_tokens_per_s")]
    return [*shown, "–" if failed is None else f"{number(100 * failed)}%"]


def _configuration(record: Record, outcome: Outcome) -> list[Block]:
    seeds = sorted({run.seed for run in record.runs})
    identity = [
        ("rounds", f"{outcome.rounds} complete of {record.rounds}, in the order A B, B A, A B, …"),
        ("seeds", f"{seeds[0]} to {seeds[-1]}" if seeds else "–"),
        ("margin", f"{percent(record.margin)}; of failed requests at most 1 point"),
        ("load", load_in_words(record.scenario)),
        ("golden questions", record.golden or "none"),
        ("model asked for", record.scenario.model),
        ("started", record.started_at),
        ("measured by", f"slipstream {record.version}"),
    ]
    text = yaml.safe_dump(record.scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return [
        _side(record, record.a), _side(record, record.b), Facts("Comparison", identity),
        Facts("Host fingerprint", list(record.host.items())), Source("Command", "\n".join(record.commands)),
        Source("Scenario, with every default; each round draws with a seed of its own", text),
    ]  # fmt: skip


def _side(record: Record, side: Side) -> Block:
    runs = [run for run in record.runs if run.letter == side.letter]
    said = {name: sorted({getattr(run, f"{name}_digest") for run in runs} - {""}) for name in ("bundle", "index")}
    rows = [
        ("given", side.given),
        ("bundle", ", ".join(said["bundle"]) or side.bundle_id or "not known"),
        ("release", side.release),
        ("index", ", ".join(said["index"]) or "not known"),
        ("server", side.url or "slipstream serve, started for each run"),
    ]
    return Facts(side.letter, [(name, value) for name, value in rows if value])


__all__ = ["render_comparison"]
