"""Gates: no number, no pass."""

from math import inf, nan

import pytest
from pydantic import ValidationError

from slipstream import GateError
from slipstream.build.gates import GateFailed, Gates, Measured, check, require

EVERYTHING = Gates(
    max_perplexity_rise=0.05,
    max_kl=0.1,
    min_golden_pass_rate=0.4,
    min_citation_validity=1.0,
    max_length_change=0.1,
)
GOOD = Measured(perplexity_rise=0.05, kl=0.1, golden_pass_rate=0.4, citation_validity=1.0, length_change=-0.1)


def names(gates: Gates, measured: Measured) -> list[str]:
    return [result.name for result in check(gates, measured) if not result.passed]


class TestWhatIsNoNumber:
    @pytest.mark.parametrize("value", [nan, inf, -inf, None])
    @pytest.mark.parametrize(
        ("field", "gate"),
        [
            ("perplexity_rise", "max_perplexity_rise"),
            ("kl", "max_kl"),
            ("golden_pass_rate", "min_golden_pass_rate"),
            ("citation_validity", "min_citation_validity"),
            ("length_change", "max_length_change"),
        ],
    )
    def test_never_passes(self, field: str, gate: str, value: float | None) -> None:
        fields = {name: getattr(GOOD, name) for name in GOOD.__slots__} | {field: value}
        assert names(EVERYTHING, Measured(**fields)) == [gate]

    def test_a_gate_that_was_not_measured_says_so(self) -> None:
        with pytest.raises(GateFailed, match="min_golden_pass_rate was not measured"):
            require(check(Gates(min_golden_pass_rate=0.5), Measured()))

    @pytest.mark.parametrize("limit", [nan, inf, -0.1])
    def test_is_no_limit_either(self, limit: float) -> None:
        with pytest.raises(ValidationError):
            Gates(max_kl=limit)


class TestALimit:
    def test_itself_is_allowed(self) -> None:
        assert names(EVERYTHING, GOOD) == []

    @pytest.mark.parametrize(
        ("field", "value", "gate"),
        [
            ("perplexity_rise", 0.0501, "max_perplexity_rise"),
            ("kl", 0.1001, "max_kl"),
            ("golden_pass_rate", 0.3999, "min_golden_pass_rate"),
            ("citation_validity", 0.9999, "min_citation_validity"),
            ("length_change", 0.1001, "max_length_change"),
            ("length_change", -0.1001, "max_length_change"),
        ],
    )
    def test_stops_what_is_just_beyond_it(self, field: str, value: float, gate: str) -> None:
        fields = {name: getattr(GOOD, name) for name in GOOD.__slots__} | {field: value}
        assert names(EVERYTHING, Measured(**fields)) == [gate]

    def test_that_is_unset_stops_nothing(self) -> None:
        assert check(Gates(max_length_change=None), Measured(perplexity_rise=9.0, length_change=9.0)) == []

    def test_stops_a_better_model_never(self) -> None:
        assert names(EVERYTHING, Measured(-0.02, 0.0, 1.0, 1.0, 0.0)) == []


class TestTheLengthOfAnswers:
    def test_is_watched_without_being_asked_to(self) -> None:
        assert names(Gates(), Measured(length_change=-0.3)) == ["max_length_change"]

    def test_is_left_out_where_no_answer_was_given_and_nobody_wrote_the_gate(self) -> None:
        assert check(Gates(), Measured()) == []

    def test_is_missed_where_somebody_wrote_the_gate(self) -> None:
        assert names(Gates(max_length_change=0.1), Measured()) == ["max_length_change"]


class TestTheMessage:
    def test_holds_each_gate_that_failed_with_both_values(self) -> None:
        with pytest.raises(GateFailed) as caught:
            require(check(EVERYTHING, Measured(0.262, 0.05, 0.2, 1.0, 0.02)))
        assert "max_perplexity_rise is 0.262, at most 0.05 is allowed" in caught.value.message
        assert "min_golden_pass_rate is 0.2, at least 0.4 is allowed" in caught.value.message
        assert "max_kl" not in caught.value.message

    def test_ends_the_command_with_1(self) -> None:
        assert issubclass(GateFailed, GateError)
        assert GateFailed.exit_code == 1

    def test_is_not_raised_when_all_pass(self) -> None:
        require(check(EVERYTHING, GOOD))
