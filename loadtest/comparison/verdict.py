"""Whether B is worse than A by more than the margin, from pairs of runs.

Every effect has two intervals from the same paired bootstrap (`statistics.bootstrap`), the pair of runs being the unit.

* *No worse* is said of a metric where its 95% interval lies within the margin. All held metrics have to be proven so;
  that claim errs no more often than one of them, so nothing is corrected.
* *Worse* is said where an interval lies wholly beyond the margin. There one of many would be enough, so each of the k
  held metrics gets a tail of 5% / k (Bonferroni): of comparisons of equals, at most 5% report any regression. The wider
  tails need more rounds before they have an interval at all: 8 for ten metrics, which is why 8 is the default.
* *Better* takes the same wider interval, wholly on the good side of no change.

The comparison is a REGRESSION where a held metric is worse; INCONCLUSIVE where one is open; else BETTER where a speed
that shorter answers cannot improve is better and the golden questions are not passed significantly less often (95%);
else NO WORSE. A mean output length that moved beyond the margin, either way, is worse: its speeds compare nothing.

Rounds that are added because a verdict was open are another look at the data: who looks often errs more often than 5%.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from slipstream.loadtest.comparison.measures import MEASURES, Measure, Values
from slipstream.loadtest.statistics.bootstrap import Effect, fewest_pairs, paired_effect

Word = Literal["better", "no worse", "open", "worse", "shown"]
ComparisonVerdict = Literal["REGRESSION", "INCONCLUSIVE", "NO WORSE", "BETTER"]
EXIT_CODES: dict[ComparisonVerdict, int] = {"REGRESSION": 1, "INCONCLUSIVE": 3, "NO WORSE": 0, "BETTER": 0}

CONFIDENCE = 0.95
_MOST_ROUNDS = 500  # who would need more has an effect that lies at the margin


@dataclass(frozen=True)
class Compared:
    """One metric.

    Attributes:
        effect: with its 95% interval: a share of A's mean, or a difference.
        sure_low, sure_high: the interval that *worse* and *better* are read from; None: too few rounds.
        margin: how much worse is allowed, in the effect's unit.
        word: ``shown`` for a metric that B is not held to.
        more_rounds: about how many more would settle an open one; None: it is settled, or lies at the margin.
    """

    measure: Measure
    effect: Effect
    sure_low: float | None
    sure_high: float | None
    margin: float
    word: Word
    more_rounds: int | None

    def harm(self, value: float) -> float:
        """``value`` of the effect, above 0 where B is worse; of a length the raw change."""
        return -value if self.measure.better == "more" else value


@dataclass(frozen=True)
class Outcome:
    """What the pairs of runs say.

    Attributes:
        rounds: complete pairs.
        sure_confidence: of the wider intervals.
        rounds_to_tell: how many give every held metric the wider interval.
        compared: in the order of `MEASURES`.
        unmeasured: held metrics that some run has no number of.
        loses_quality: the golden questions are passed significantly less often, so B cannot be better.
    """

    verdict: ComparisonVerdict
    margin: float
    rounds: int
    sure_confidence: float
    rounds_to_tell: int
    compared: tuple[Compared, ...]
    unmeasured: tuple[str, ...]
    loses_quality: bool

    @property
    def exit_code(self) -> int:
        """0 no worse or better, 1 a regression, 3 open."""
        return EXIT_CODES[self.verdict]

    @property
    def more_rounds(self) -> int | None:
        """About how many more rounds would settle every open metric; None: none is open, or no number would."""
        opened = [one.more_rounds for one in self.compared if one.word == "open"]
        known = [number for number in opened if number is not None]
        return max(known) if known and len(known) == len(opened) else None

    def having(self, word: Word) -> tuple[Compared, ...]:
        """The metrics of that word."""
        return tuple(one for one in self.compared if one.word == word)


def judge_pairs(pairs: Sequence[tuple[Values, Values]], margin: float) -> Outcome:
    """The verdict on (A, B) of each round.

    Args:
        margin: how much worse B may be, as a share: of A's value, or in points of a share.
    """
    effects = {measure.key: _effect(measure, pairs, CONFIDENCE) for measure in _measured(pairs)}
    held = [measure for measure in _measured(pairs) if measure.held and effects[measure.key].value is not None]
    sure = 1 - 2 * (1 - CONFIDENCE) / max(1, len(held))
    found = [_compare(measure, pairs, effects[measure.key], margin, sure) for measure in _measured(pairs)]
    compared = tuple(one for one in found if one is not None)
    known = {one.measure.name for one in compared}
    lacking = (measure.name for measure in MEASURES if measure.held and measure.name not in known)
    lost = any(
        one.measure.key.startswith("golden") and one.effect.high is not None and one.effect.high < 0 for one in compared
    )
    return Outcome(
        verdict=_verdict(compared, lost),
        margin=margin,
        rounds=len(pairs),
        sure_confidence=sure,
        rounds_to_tell=fewest_pairs(sure),
        compared=compared,
        unmeasured=tuple(dict.fromkeys(lacking)),
        loses_quality=lost,
    )


def _measured(pairs: Sequence[tuple[Values, Values]]) -> list[Measure]:
    """What every run has a number of. The golden questions count by text only where citations cannot be judged."""
    runs = [run for pair in pairs for run in pair]
    known = [one for one in MEASURES if runs and all(run.get(one.key) is not None for run in runs)]
    citing = any(one.key == "golden_pass_rate" for one in known)
    return [one for one in known if not (citing and one.key == "golden_text_rate")]


def _effect(measure: Measure, pairs: Sequence[tuple[Values, Values]], confidence: float) -> Effect:
    before, after = ([float(pair[side][measure.key] or 0.0) for pair in pairs] for side in (0, 1))
    return paired_effect(before, after, confidence, share=measure.relative)


def _compare(
    measure: Measure, pairs: Sequence[tuple[Values, Values]], effect: Effect, margin: float, sure: float
) -> Compared | None:
    """None where a change of nothing has no share."""
    if effect.value is None:
        return None
    wide = _effect(measure, pairs, sure)
    one = Compared(measure, effect, wide.low, wide.high, measure.margin(margin), "shown", None)
    word = _word(one) if measure.held else "shown"
    more = _more_rounds(one, fewest_pairs(sure)) if word == "open" else None
    return Compared(measure, effect, wide.low, wide.high, one.margin, word, more)


def _harms(one: Compared, low: float | None, high: float | None) -> tuple[float, float] | None:
    """The ends of an interval as harm, the less first."""
    if low is None or high is None:
        return None
    least, most = sorted((one.harm(low), one.harm(high)))
    return least, most


def _word(one: Compared) -> Word:
    wide, narrow = _harms(one, one.sure_low, one.sure_high), _harms(one, one.effect.low, one.effect.high)
    two_sided = one.measure.better == "same"
    if wide and (wide[0] > one.margin or (two_sided and wide[1] < -one.margin)):
        return "worse"
    if narrow and narrow[1] <= one.margin and not (two_sided and narrow[0] < -one.margin):
        return "better" if wide and wide[1] < 0 and one.measure.wins else "no worse"
    return "open"


def _more_rounds(one: Compared, to_tell: int) -> int | None:
    """How many more until an interval, which narrows with the root of their number, leaves the margin on one side."""
    rounds, effect = one.effect.pairs, one.effect
    narrow, wide = _harms(one, effect.low, effect.high), _harms(one, one.sure_low, one.sure_high)
    if narrow is None or effect.value is None:
        return max(1, to_tell - rounds)
    harm = abs(effect.value) if one.measure.better == "same" else one.harm(effect.value)
    reached = wide if harm > one.margin else narrow
    if reached is None:
        return max(1, to_tell - rounds)
    room = abs(one.margin - harm)
    needed = ceil(rounds * ((reached[1] - reached[0]) / 2 / room) ** 2) if room else _MOST_ROUNDS + 1
    return max(1, needed - rounds) if needed <= _MOST_ROUNDS else None


def _verdict(compared: Sequence[Compared], loses_quality: bool) -> ComparisonVerdict:
    words = {one.word for one in compared}
    if "worse" in words:
        return "REGRESSION"
    succeeded = any(one.measure.key == "e2e_p95" for one in compared)  # else some run had no answer at all
    if "open" in words or not succeeded:
        return "INCONCLUSIVE"
    return "BETTER" if "better" in words and not loses_quality else "NO WORSE"


__all__ = ["CONFIDENCE", "EXIT_CODES", "Compared", "ComparisonVerdict", "Outcome", "Word", "judge_pairs"]
