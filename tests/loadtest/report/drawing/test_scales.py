"""Numbers to pixels, ticks and words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.loadtest.report.drawing.scales import Scale, bounds, nice_step, number, percent, tick_text, ticks


def test_no_values_or_one_value_still_make_a_range() -> None:
    assert bounds(np.zeros(0)) == (0, 1)
    assert bounds(np.array([np.nan, np.inf])) == (0, 1)
    assert bounds(np.array([0.0, -1.0]), log=True) == (1, 10)
    assert bounds(np.array([5.0, 9.0]), least=0) == (0, 9)
    for low, high in (bounds(np.array([5.0])), bounds(np.array([0.0]), least=0), bounds(np.array([7.0]), log=True)):
        assert low < high


def test_what_lies_outside_is_put_on_the_edge_and_nan_stays_nan() -> None:
    pixels = Scale(0, 10, 100, 0)(np.array([-5.0, 5.0, 50.0, np.nan]))
    assert pixels[:3].tolist() == [100, 50, 0]
    assert np.isnan(pixels[3])


def test_a_logarithmic_scale_gives_each_decade_the_same_room() -> None:
    assert Scale(1, 1000, 0, 300, log=True)(np.array([1.0, 10.0, 100.0, 1000.0])) == pytest.approx([0, 100, 200, 300])


@given(st.floats(1e-6, 1e9), st.floats(1e-3, 1e6), st.integers(2, 15), st.booleans())
def test_ticks_are_few_sorted_and_inside(low: float, span: float, most: int, log: bool) -> None:
    high = low * (1 + span) if log else low + span
    found = ticks(low, high, most, log=log)
    assert found == sorted(set(found))
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span - 1e-9 * low <= tick <= high + 1e-6 * span + 1e-9 * high for tick in found)


def test_ticks_are_round() -> None:
    assert ticks(0, 0.3, 4) == [0, 0.1, 0.2, 0.3]
    assert ticks(0, 1234, 5) == [0, 500, 1000]
    assert ticks(2, 800, 6, log=True) == [3, 10, 30, 100, 300]
    assert nice_step(100, 5) == 20


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "–"), (0, "0"), (0.0312, "0.0312"), (22.46, "22.5"),
     (328.4, "328"), (123_456, "123,456"), (-7.25, "-7.25")],
)  # fmt: skip
def test_a_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_share_and_a_tick_are_said_shortly() -> None:
    assert [percent(0.95), percent(0.999), percent(1 - 0.95)] == ["95%", "99.9%", "5%"]
    assert [tick_text(0.1), tick_text(2000), tick_text(20_000), tick_text(3e6)] == ["0.1", "2,000", "20k", "3M"]
