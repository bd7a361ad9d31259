"""What a comparison says on a terminal: how long it takes, each run as it ends, and what it came to."""

import time
from collections.abc import Iterator

import click

from slipstream.loadtest.comparison.measures import BY_KEY
from slipstream.loadtest.comparison.output.wording import (
    caveats,
    change_text,
    interval_text,
    margin_text,
    needs_text,
    sentence,
    value_text,
)
from slipstream.loadtest.comparison.record import Record, RunRecord
from slipstream.loadtest.comparison.rounds import estimated_s
from slipstream.loadtest.comparison.verdict import Outcome

# Until the first run was timed: a server's start and stop, Locust's, and the golden questions on two cores.
_START_S, _AROUND_S, _GOLDEN_S = 15.0, 4.0, 8.0
_COLOURS = {"REGRESSION": "red", "INCONCLUSIVE": "yellow", "NO WORSE": "green", "BETTER": "green"}


def expectation(record: Record, runs: int) -> str:
    """What is about to happen and how long it takes."""
    each = estimated_s(record.scenario)
    starts = sum(1 for side in (record.a, record.b) if side.bundle) * (runs / 2)
    around = _AROUND_S + (_GOLDEN_S if record.golden else 0)
    what = f"A {record.a.name} and B {record.b.name}, {record.rounds} rounds: {runs} runs"
    if each is None:
        return f"{what}; how long they take shows with the first"
    load = f" of {each:g} s" + (f" and {starts:g} server starts of about {_START_S:g} s" if starts else "")
    return f"{what}{load}, about {_minutes(runs * (each + around) + starts * _START_S)} in all"


def remaining(record: Record, runs: int) -> str:
    """How long what is left takes, by what ran."""
    took = [run.took_s for run in record.runs]
    return f" · about {_minutes(runs * sum(took) / len(took))} left" if runs and took else ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def run_line(run: RunRecord) -> str:
    head = f"{time.strftime('%H:%M:%S')} round {run.round} {run.letter}"
    if run.status != "complete":
        return f"{head}: {run.status}, {run.reason}"
    shown = ("ttft_p95", "tpot_p95", "output_tokens_per_s", "error_share", "golden_pass_rate", "output_tokens")
    found = ((BY_KEY[key], run.values.get(key)) for key in shown)
    return f"{head}: " + ", ".join(
        f"{measure.name} {value_text(measure, value)}" for measure, value in found if value is not None
    )


def lines(record: Record, outcome: Outcome) -> Iterator[str]:
    """The outcome for people: verdict, a row per metric, what to know, files."""
    yield f"{click.style(outcome.verdict, fg=_COLOURS[outcome.verdict], bold=True)} {sentence(record, outcome)}"
    yield ""
    yield f"{'':32}{'A':>11}{'B':>11}  {'change':>12}  {'95% interval':22}{'margin':12}"
    for one in outcome.compared:
        effect = one.effect
        numbers = "".join(f"{value_text(one.measure, value):>11}" for value in (effect.before, effect.after))
        change = change_text(one.measure, effect.value)
        interval = interval_text(one.measure, effect.low, effect.high)
        margin = margin_text(one) if one.measure.held else ""
        word = f"open: {needs_text(one)}" if one.word == "open" else one.word if one.measure.held else "not held"
        yield f"{one.measure.name:32}{numbers}  {change:>12}  {interval:22}{margin:12}{word}"
    yield ""
    for note in caveats(record, outcome):
        yield click.style(f"note: {note}", fg="yellow")
    yield f"report   {record.report}"
    yield f"runs     {record.root}"


__all__ = ["expectation", "lines", "remaining", "run_line"]
