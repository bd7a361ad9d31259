"""The verdict on two sets of scores: what is refused, what is better, and how often chance alone is called better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.build.promotion.comparison import (
    MINIMUM_QUESTIONS,
    MarginInvalid,
    ScoresUnfit,
    TooFewQuestions,
    compare,
)


def scores(values: list[float]) -> dict[str, float]:
    return {f"q{number:03}": value for number, value in enumerate(values)}


# --- what cannot be compared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_number_that_is_no_score_names_its_question(score: float) -> None:
    with pytest.raises(ScoresUnfit, match=r"q021.*candidate"):
        compare(scores([0.5] * 21 + [score]), scores([0.5] * 22))
    with pytest.raises(ScoresUnfit, match=r"q021.*production"):
        compare(scores([0.5] * 22), scores([0.5] * 21 + [score]))


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -0.01, 1.0])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(MarginInvalid, match="is no margin"):
        compare(scores([0.5] * 22), scores([0.5] * 22), margin)


def test_a_question_that_only_one_was_asked_is_named() -> None:
    with pytest.raises(ScoresUnfit, match="q030"):
        compare(scores([1.0] * 31), scores([0.0] * 30))


def test_no_scores_are_no_comparison() -> None:
    with pytest.raises(ScoresUnfit, match="candidate has no scores"):
        compare({}, {})


def test_a_few_questions_conclude_nothing_however_clear_they_look() -> None:
    few = MINIMUM_QUESTIONS - 1
    with pytest.raises(TooFewQuestions, match=r"\+1\.000") as inconclusive:
        compare(scores([1.0] * few), scores([0.0] * few))
    assert inconclusive.value.exit_code == 3
    assert compare(scores([1.0] * (few + 1)), scores([0.0] * (few + 1))).is_better


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_the_pairing_finds_a_small_gain_among_questions_that_differ_much() -> None:
    hardness = np.random.default_rng(1).uniform(0, 0.9, 40)
    found = compare(scores([*(hardness + 0.05)]), scores([*hardness]))
    assert found.is_better
    assert found.difference == pytest.approx(0.05)
    assert (found.lower, found.upper) == pytest.approx((0.05, 0.05))
    shuffled = np.random.default_rng(2).permutation(hardness + 0.05)
    assert not compare(scores([*shuffled]), scores([*hardness])).is_better, "the same means, unpaired"


@pytest.mark.parametrize(("gained", "lost", "better"), [(3, 0, False), (6, 4, False), (12, 2, True)])
def test_a_higher_mean_is_not_yet_better(gained: int, lost: int, better: bool) -> None:
    production = scores([0.0] * gained + [1.0] * lost + [1.0] * (30 - gained - lost))
    found = compare(scores([1.0] * gained + [0.0] * lost + [1.0] * (30 - gained - lost)), production)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.candidate > found.production
    assert found.is_better is better


def test_equal_scores_are_not_better_but_not_inferior_either() -> None:
    equal = scores([0.0, 1.0] * 20)
    assert not compare(equal, equal).is_better
    assert compare(equal, equal, margin=0.02).is_better


def test_a_margin_lets_in_a_loss_that_surely_is_smaller_and_no_other() -> None:
    worse = scores([0.79, 0.80] * 20)
    assert compare(worse, scores([0.80] * 40), margin=0.02).is_better
    assert not compare(worse, scores([0.80] * 40), margin=0.005).is_better


def test_the_same_scores_always_get_the_same_interval() -> None:
    random = np.random.default_rng(3)
    both = scores([*random.random(30)]), scores([*random.random(30)])
    assert compare(*both) == compare(*both)


@settings(deadline=None)  # a busy machine takes longer over a bootstrap, and that is no failure
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=MINIMUM_QUESTIONS, max_size=60))
def test_the_interval_holds_the_difference_and_turns_over_with_the_roles(pairs: list[tuple[float, float]]) -> None:
    one, other = scores([pair[0] for pair in pairs]), scores([pair[1] for pair in pairs])
    there, back = compare(one, other), compare(other, one)
    assert -1 <= there.lower <= there.upper <= 1
    assert there.lower - 1e-9 <= there.difference <= there.upper + 1e-9
    assert there.difference == pytest.approx(-back.difference)
    assert not (there.is_better and back.is_better)


@pytest.mark.parametrize("questions", [30, 100])
def test_chance_alone_is_rarely_called_better(questions: int) -> None:
    """Simulation without a true difference: 95% of the intervals should hold 0, and 2.5% lie above it."""
    random = np.random.default_rng(11)
    above = held = 0
    for _ in range(200):
        before = random.random(questions) < 0.6
        turned = random.random(questions)
        after = np.where(turned < 0.15, ~before, before)
        # What is turned either way with equal chance, so that neither is better.
        after = np.where(turned < 0.15, random.random(questions) < 0.5, after)
        before = np.where(turned < 0.15, random.random(questions) < 0.5, before)
        found = compare(scores([*after.astype(float)]), scores([*before.astype(float)]))
        above += found.lower > 0
        held += found.lower <= 0 <= found.upper
    assert above <= 0.06 * 200
    assert held >= 0.89 * 200
