"""A comparison in words: the verdict in a sentence, effects with their unit, what an open metric needs."""

from collections.abc import Iterator, Sequence

from slipstream.loadtest.comparison.measures import Measure
from slipstream.loadtest.comparison.record import Record
from slipstream.loadtest.comparison.verdict import CONFIDENCE, Compared, Outcome
from slipstream.loadtest.report.drawing.scales import number, percent
from slipstream.loadtest.report.headline import load_in_words


def value_text(measure: Measure, value: float) -> str:
    """A run's number with its unit where the metric's name does not say it."""
    if measure.unit == "share":
        return f"{number(100 * value)}%"
    return f"{number(value)} ms" if measure.unit == "ms" else number(value)


def change_text(measure: Measure, value: float | None, *, unit: bool = True) -> str:
    """An effect with its sign: of a share in points, else in percent."""
    if value is None:
        return "–"
    size = number(abs(100 * value), 2) if abs(value) >= 0.0005 else "0"
    sign = "" if size == "0" else "+" if value > 0 else "−"
    return f"{sign}{size}" + (("%" if measure.relative else " points") if unit else "")


def interval_text(measure: Measure, low: float | None, high: float | None) -> str:
    """``[−3.1, +0.4]`` in the unit of `change_text`."""
    if low is None or high is None:
        return "no interval"
    return f"[{change_text(measure, low, unit=False)}, {change_text(measure, high, unit=False)}]"


def margin_text(one: Compared) -> str:
    """How much worse is allowed."""
    sign = "±" if one.measure.better == "same" else "+" if one.measure.better == "less" else "−"
    size = f"{round(100 * one.margin, 2):g}"
    return f"{sign}{size}%" if one.measure.relative else f"{sign}{size} {'point' if size == '1' else 'points'}"


def effect_text(one: Compared) -> str:
    """``TTFT p95 +21% [+18, +24]``."""
    low, high = one.effect.low, one.effect.high
    change = change_text(one.measure, one.effect.value)
    return f"{one.measure.name} {change} {interval_text(one.measure, low, high)}"


def needs_text(one: Compared) -> str:
    """What an open metric needs."""
    if one.more_rounds is None:
        return "at the margin, where no reasonable number of rounds settles it"
    return f"about {one.more_rounds:,} more {'round' if one.more_rounds == 1 else 'rounds'}"


def sentence(record: Record, outcome: Outcome) -> str:
    """The verdict in words, after its name."""
    load, margin = load_in_words(record.scenario), percent(outcome.margin)
    rounds = f"{outcome.rounds} {'round' if outcome.rounds == 1 else 'rounds'}"
    names = f"B ({record.b.name})", f"A ({record.a.name})"
    if outcome.verdict == "REGRESSION":
        worse = _listed([effect_text(one) for one in outcome.having("worse")])
        return f"{load}, {names[0]} is worse than {names[1]} by more than {margin}: {worse}; {rounds}."
    if outcome.verdict == "INCONCLUSIVE":
        asked = f"whether {names[0]} is worse than {names[1]} by more than {margin}"
        return f"{load}, {rounds} cannot tell {asked}: {_open(outcome)}."
    held = f"no held metric is worse by more than {margin}, each proven with {percent(CONFIDENCE)} confidence; {rounds}"
    if outcome.verdict == "BETTER":
        better = _listed([effect_text(one) for one in outcome.having("better")])
        return f"{load}, {names[0]} is better than {names[1]}: {better}; {held}."
    lost = " It passes fewer golden questions, so no gain in speed makes it the better one." * outcome.loses_quality
    return f"{load}, {names[0]} is no worse than {names[1]}: {held}.{lost}"


def _open(outcome: Outcome) -> str:
    opened = outcome.having("open")
    if not opened:
        return "in some run no request succeeded"
    if all(one.effect.low is None for one in opened):
        return f"they are too few for an interval, and {outcome.rounds_to_tell} would have every one"
    shown = _listed([one.measure.name for one in opened])
    if outcome.more_rounds is not None:
        is_open = "is open" if len(opened) == 1 else "are open"
        needed = f"about {outcome.more_rounds:,} more rounds settle it if effect and noise stay as they are"
        return f"{shown} {is_open}; {needed}"
    return "; ".join(f"{one.measure.name} is open, {needs_text(one)}" for one in opened)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def caveats(record: Record, outcome: Outcome) -> Iterator[str]:
    """What a reader has to know before the numbers; what was typed in first."""
    yield from record.notes
    if outcome.rounds < record.rounds:
        yield f"{outcome.rounds} of {record.rounds} rounds are complete; the others say nothing yet"
    if outcome.rounds < outcome.rounds_to_tell:
        yield (
            f"with fewer than {outcome.rounds_to_tell} rounds no regression of any size can be proven "
            f"({len([one for one in outcome.compared if one.measure.held])} metrics are held at once)"
        )
    if any(one.measure.key == "golden_text_rate" for one in outcome.compared):
        yield "golden answers are judged by their text alone, because not every run tells what they cite"
    if outcome.unmeasured:
        yield f"not measured in every run, so not held: {', '.join(outcome.unmeasured)}"
    voids = [run for run in record.runs if run.status == "void"]
    if voids:
        yield f"{len(voids)} void {'run was' if len(voids) == 1 else 'runs were'} repeated: {voids[-1].reason}"
    yield from _identities(record)


def _identities(record: Record) -> Iterator[str]:
    """What the servers said of themselves, where it does not fit."""
    indexes = {letter: {run.index_digest for run in record.runs if run.letter == letter} for letter in "AB"}
    for letter in "AB":
        said = {run.bundle_digest for run in record.runs if run.letter == letter}
        if len(said) > 1 or len(indexes[letter]) > 1:
            yield f"{letter} was not one and the same server all the time: its bundle or its index changed between runs"
    if indexes["A"] and indexes["B"] and indexes["A"] != indexes["B"]:
        yield "A and B answer from different indexes, so what differs need not come from the engines"


__all__ = [
    "caveats", "change_text", "effect_text", "interval_text", "margin_text", "needs_text", "sentence", "value_text",
]  # fmt: skip
