"""How long a point is, and which seed it has."""

import pytest

from slipstream.loadtest.capacity.points import LEAST_S, NoCapacity, Sizing, first_rate, scenario_at, sizing
from slipstream.loadtest.schedule.plan import draw
from tests.loadtest.simulated import scenario

POISSON = {"kind": "poisson", "rate": 3.0}


@pytest.mark.parametrize(
    "arrivals",
    [
        {"kind": "closed", "users": 4},
        {"kind": "ramp", "start": 1, "end": 4},
        {"kind": "replay", "trace": "trace.jsonl"},
    ],
)
def test_arrivals_without_a_rate_have_no_capacity(arrivals: dict[str, object]) -> None:
    with pytest.raises(NoCapacity, match=f"{arrivals['kind']} arrivals, and a capacity is a rate"):
        first_rate(scenario(arrivals=arrivals))


def test_a_scenario_without_an_slo_has_no_capacity() -> None:
    with pytest.raises(NoCapacity, match="has no SLO"):
        first_rate(scenario(slos=[]))


@pytest.mark.parametrize(
    ("slos", "confidence", "requests"),
    [
        ([{"metric": "ttft", "bound_ms": 500}], 0.95, 208),
        ([{"metric": "ttft", "bound_ms": 500}, {"metric": "tpot", "bound_ms": 60, "quantile": 0.99}], 0.95, 1049),
    ],
)
def test_a_point_proves_its_strictest_slo_with_five_misses(
    slos: list[dict[str, object]], confidence: float, requests: int
) -> None:
    assert sizing(scenario(slos=slos, confidence=confidence)).requests == requests


def test_so_few_requests_that_none_could_pass_are_refused() -> None:
    with pytest.raises(NoCapacity, match="58 requests prove nothing: without a single miss it takes 59"):
        sizing(scenario(), requests=58)
    assert sizing(scenario(), requests=59).requests == 59


def test_a_high_rate_is_measured_for_a_while() -> None:
    assert Sizing(208).requests_at(3) == 208
    assert Sizing(208).requests_at(100) == 100 * LEAST_S
    assert Sizing(208, least_s=1.0).requests_at(100) == 208


@pytest.mark.parametrize("arrivals", [POISSON, {"kind": "gamma", "rate": 3.0, "burstiness": 0.25}])
@pytest.mark.parametrize("number", range(1, 6))
def test_the_measured_requests_of_a_point_are_as_many_as_planned_and_come_at_its_rate(
    arrivals: dict[str, object], number: int
) -> None:
    point = scenario_at(scenario(arrivals=arrivals), 2.5, number, Sizing(208))
    (prompts := point.model_dump())["prompts"] = {"kind": "golden"}
    plan = draw(type(point).model_validate(prompts))
    moments = [one.scheduled_s for one in plan.arrivals if one.measured]
    assert len(moments) == 208
    assert moments[-1] is not None
    assert 208 / (moments[-1] - point.warmup) == pytest.approx(2.5, rel=0.021)


def test_every_point_has_a_seed_of_its_own_and_always_the_same() -> None:
    def seeds(seed: int) -> list[int]:
        return [scenario_at(scenario(arrivals=POISSON, seed=seed), 3, number, Sizing(208)).seed for number in range(9)]

    assert len(set(seeds(7))) == 9
    assert seeds(7) == seeds(7)
    assert not set(seeds(7)) & set(seeds(8))
