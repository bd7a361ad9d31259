"""Which rate comes next, against servers whose capacity is known."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.loadtest.capacity.search import LOWEST, Bracket, Finding, Tried, next_rate
from slipstream.loadtest.statistics.binomial import decide

Server = Callable[[float], Finding]


def searched(server: Server, start: float = 3.0, precision: float = 0.1, most: int = 60) -> list[Tried]:
    tried: list[Tried] = []
    while (rate := next_rate(tried, start, precision)) is not None:
        tried.append(Tried(rate, server(rate)))
        assert len(tried) <= most, "the search has no end"
    return tried


def sharp(capacity: float) -> Server:
    return lambda rate: "held" if rate <= capacity else "refuted"


def hazy(capacity: float, haze: float = 1.5) -> Server:
    """Nothing can be told from ``capacity / haze`` to ``capacity * haze``."""
    return lambda rate: "held" if rate < capacity / haze else "refuted" if rate > capacity * haze else "open"


def rates(tried: list[Tried]) -> list[float]:
    return [one.rate for one in tried]


def test_it_doubles_until_a_rate_is_not_held_and_bisects() -> None:
    assert rates(searched(sharp(10), start=3)) == [3, 6.0, 12.0, 8.49, 10.1, 9.26]
    assert Bracket.of(searched(sharp(10), start=3)) == Bracket(9.26, 10.1, None, 10.1)


def test_it_halves_until_a_rate_is_held() -> None:
    assert rates(searched(sharp(1), start=3))[:4] == [3, 1.5, 0.75, 1.06]


def test_what_never_holds_ends_the_search() -> None:
    tried = searched(lambda rate: "refuted", start=3)
    assert min(rates(tried)) == 3 * LOWEST
    assert Bracket.of(tried).held is None


def test_what_always_holds_ends_the_search() -> None:
    assert Bracket.of(searched(lambda rate: "held")).ceiling is None


def test_an_open_rate_is_not_proven_and_does_not_refute() -> None:
    known = Bracket.of(searched(hazy(3)))
    assert known.held is not None
    assert known.ceiling is not None
    assert known.refuted is not None
    assert known.held < 2 <= known.ceiling <= known.held * 1.1
    assert known.refuted / 1.1 <= 4.5 <= known.refuted


def test_what_is_open_everywhere_is_looked_for_in_both_directions_and_ends() -> None:
    tried = searched(lambda rate: "open")
    assert Bracket.of(tried).held is None
    assert min(rates(tried)) < 3


def test_a_higher_rate_that_holds_settles_an_open_one() -> None:
    found: dict[float, Finding] = {2: "held", 2.2: "open", 2.6: "held", 4: "refuted"}
    known = Bracket.of([Tried(rate, finding) for rate, finding in found.items()])
    assert (known.held, known.ceiling, known.refuted) == (2.6, 4, 4)


def test_a_rate_that_holds_above_a_refuted_one_proves_nothing() -> None:
    found: dict[float, Finding] = {2: "held", 3: "refuted", 4: "held"}
    known = Bracket.of([Tried(rate, finding) for rate, finding in found.items()])
    assert (known.held, known.refuted) == (2, 3)


@given(
    capacity=st.floats(0.1, 900),
    precision=st.floats(0.02, 1),
    haze=st.floats(1, 3),
    start=st.sampled_from([0.3, 3, 50]),
)
def test_it_ends_with_both_ends_within_the_precision(
    capacity: float, precision: float, haze: float, start: float
) -> None:
    tried = searched(hazy(capacity, haze), start, precision)
    known = Bracket.of(tried)
    if known.held is None or known.refuted is None:  # further away than is looked
        assert capacity / haze <= start * LOWEST * 2 or capacity * haze >= start * 512
        return
    assert known.held <= capacity / haze <= (known.ceiling or 0)
    assert known.refuted / (1 + precision) <= capacity * haze * (1 + 1e-6)
    assert known.is_found(precision)
    assert len(set(rates(tried))) == len(tried), "a rate is tried once"


@given(st.integers(0, 7))
def test_a_search_that_was_killed_goes_on_as_it_would_have(ran: int) -> None:
    whole = searched(hazy(5))
    assert next_rate(whole[:ran], 3.0, 0.1) == (whole[ran].rate if ran < len(whole) else None)


@cache
def finding(misses: int, requests: int) -> Finding:
    named: dict[str, Finding] = {"PASS": "held", "FAIL": "refuted", "INCONCLUSIVE": "open"}
    return named[decide(misses, requests, 0.95, 0.95)]


def simulated(power: float, rng: np.random.Generator, requests: int = 208) -> Iterator[Bracket]:
    """Searches on a server that misses its SLO in 5% at a rate of 1; misses grow with that power of the rate."""
    while True:

        def server(rate: float) -> Finding:
            return finding(int(rng.binomial(requests, min(1.0, 0.05 * rate**power))), requests)

        yield Bracket.of(searched(server, start=float(np.exp(rng.uniform(-1, 1)))))


@pytest.mark.parametrize("power", [1, 4, 16])
def test_the_interval_misses_the_capacity_in_less_than_a_twentieth_of_all_searches(power: float) -> None:
    runs = [known for known, _ in zip(simulated(power, np.random.default_rng(11)), range(400), strict=False)]
    too_high = sum(known.held is not None and known.held > 1 for known in runs)
    too_low = sum(known.refuted is not None and known.refuted < 1 for known in runs)
    assert too_high + too_low <= 0.05 * len(runs)
    found = sum(known.is_found(0.1) for known in runs)
    assert found >= 0.99 * len(runs)
