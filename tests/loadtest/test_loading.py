"""Scenarios: what is shipped, and how a mistake in one is told."""

import os
from pathlib import Path

import pytest

from slipstream.loadtest.loading import (
    SHIPPED,
    ScenarioInvalid,
    ScenarioNotFound,
    known_keys,
    load_scenario,
    parse_scenario,
    shipped_scenarios,
)
from slipstream.loadtest.scenario import Scenario, SyntheticPrompts
from slipstream.loadtest.schedule.plan import draw
from slipstream.loadtest.schedule.tokens import ServerTokenizer

MINIMAL = "arrivals: {kind: poisson, rate: 3}\n"


def fault(text: str) -> ScenarioInvalid:
    with pytest.raises(ScenarioInvalid) as caught:
        parse_scenario(text, "my.yaml")
    assert caught.value.message.startswith("my.yaml")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_shipped_scenario_can_be_drawn_and_says_what_it_is_for(name: str, tokenizer: ServerTokenizer) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    plan = draw(scenario, tokenizer)
    assert plan.is_open == (name not in ("closed-8", "rag-closed-2"))
    assert (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


def test_the_default_asks_what_the_product_promises() -> None:
    scenario = load_scenario("default")
    assert [slo.label for slo in scenario.slos] == ["p95 TTFT ≤ 500 ms", "p95 TPOT ≤ 60 ms"]
    measured = [one for one in draw(scenario).arrivals if one.measured]
    assert len(measured) / scenario.duration == pytest.approx(3, rel=0.02)
    assert {one.body["model"] for one in measured} == {"slipstream"}


def test_only_the_smoke_scenario_is_over_in_seconds() -> None:
    last = {name: draw(load_scenario(name)).arrivals[-1].scheduled_s for name in ("smoke", "burst", "ramp")}
    assert last["smoke"] < 5
    assert min(last["burst"], last["ramp"]) > 60


@pytest.mark.parametrize(
    ("written", "place", "nearest"),
    [
        ("durration: 3", "durration", "duration"),
        ("output: {tokns: 3}", "output.tokns", "output.tokens"),
        ("prompts: {kind: golden, sett: x}", "prompts.sett", "prompts.set"),
        ("slos: [{metric: ttft, bound_ms: 5, quantil: 0.9}]", "slos.0.quantil", "slos.0.quantile"),
        ("rate: 3", "rate", "arrivals.rate"),  # of another section
        ("think: 1", "think", "arrivals.think"),
        ("timeouts: {stal: 3}", "timeouts.stal", "timeouts.stall"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest_known_key(written: str, place: str, nearest: str) -> None:
    error = fault(MINIMAL + written)
    assert f"unknown key {place!r}" in error.message
    assert f"nearest known key is {nearest!r}" in error.message
    assert error.remedy == f"write {nearest} instead of {place}"


def test_a_key_of_another_kind_of_arrivals_is_unknown() -> None:
    error = fault("arrivals: {kind: closed, users: 3, rate: 3}")
    assert "unknown key 'arrivals.rate'" in error.message


@pytest.mark.parametrize("written", ["{rate: 3}", "{kind: poison, rate: 3}", "{kind: null}"])
def test_a_kind_that_is_none_is_told_all_of_them(written: str) -> None:
    error = fault(f"arrivals: {written}")
    assert "arrivals.kind has to be one of: constant, poisson, gamma, ramp, closed, replay" in error.message


def test_every_fault_is_told_at_once_and_a_misspelt_key_first() -> None:
    error = fault("arivals: {kind: poisson, rate: 3}\nslos: [{metric: tft, bound_ms: 0}]\nconfidence: 2\nseed: -1")
    for place in ("slos.0.metric", "slos.0.bound_ms", "confidence", "seed", "arrivals is missing"):
        assert place in error.message
    assert error.remedy == "write arrivals instead of arivals"


@pytest.mark.parametrize("tokens", ["many", "[5, 1]", "[1, 2, 3]", "0", "[0, 4]", "1.5", "99999999"])
def test_a_number_or_a_range_that_is_neither_is_one_fault(tokens: str) -> None:
    error = fault(f"{MINIMAL}output: {{tokens: {tokens}}}")
    assert "output.tokens" in error.message
    assert error.remedy == "change output.tokens"


@pytest.mark.parametrize(
    "text",
    [
        "arrivals: {kind: poisson, rate: 1}\narrivals: {kind: poisson, rate: 2}",
        "arrivals: {kind: poisson, rate: 1, rate: 2}",
    ],
)
def test_a_key_written_twice_is_refused_with_its_line(text: str) -> None:
    error = fault(text)
    assert "written twice" in error.message
    assert "line " in error.message


@pytest.mark.parametrize("text", ["", "- 1", "just words", "a: [1", "[" * 5000, "when: 2001-99-99", "\x00"])
def test_what_holds_no_keys_is_refused(text: str) -> None:
    fault(text)


@pytest.mark.parametrize("rate", [".inf", ".nan", "0", "-1", "fast", "1e9"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    assert "arrivals.rate" in fault(f"arrivals: {{kind: poisson, rate: {rate}}}").message


def test_a_load_without_an_end_or_an_impossible_slo_is_refused() -> None:
    assert "never ends" in fault(MINIMAL + "duration: null").message
    assert "needs stream" in fault(MINIMAL + "stream: false\nslos: [{metric: ttft, bound_ms: 5}]").message
    assert "disconnects need" in fault(MINIMAL + "stream: false\ndisconnects: {share: 0.5}").message


def test_a_file_is_found_by_its_path_and_gives_the_scenario_its_name(tmp_path: Path) -> None:
    path = tmp_path / "Monday Morning (2).yaml"
    path.write_text(MINIMAL)
    assert load_scenario(str(path)).name == "monday-morning-2-"
    path.write_text(MINIMAL + "name: monday")
    assert load_scenario(str(path)).name == "monday"


def test_what_is_no_scenario_names_those_that_are(tmp_path: Path) -> None:
    for reference in ("dafault", str(tmp_path), "", "default.yml"):
        with pytest.raises(ScenarioNotFound) as caught:
            load_scenario(reference)
        assert "default" in caught.value.remedy
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "pipe", tmp_path / "latin"):
        with pytest.raises(ScenarioInvalid):
            load_scenario(str(path))


def test_every_key_is_known_by_its_dotted_place() -> None:
    keys = set(known_keys(Scenario))
    assert {"arrivals.burstiness", "prompts.tokens", "slos.bound_ms", "disconnects.share", "timeouts.stall"} <= keys


def test_a_range_is_kept_as_it_was_written() -> None:
    prompts = parse_scenario(MINIMAL + "prompts: {kind: synthetic, tokens: [16, 64]}", "my.yaml").prompts
    assert isinstance(prompts, SyntheticPrompts)
    assert prompts.tokens == (16, 64)
