"""What the gates look at: code and not prose, the engine and not the model it was made from."""

from slipstream.build.evaluation.record import _measured
from slipstream.build.gates import Measured

QUALITY = {"code": {"rise": 0.01, "kl": 0.02}, "prose": {"rise": 0.5, "kl": 0.6}}
GOLDEN = {
    "report": {"pass_rate": 0.7, "citation_validity": 0.9},
    "reference": {"pass_rate": 0.1, "citation_validity": 0.2},
    "length_change": -0.03,
}


def test_gates_are_on_code_and_on_what_the_engine_answered() -> None:
    assert _measured(QUALITY, GOLDEN) == Measured(0.01, 0.02, 0.7, 0.9, -0.03)


def test_what_nobody_asked_was_not_measured() -> None:
    assert _measured(QUALITY, None) == Measured(0.01, 0.02)
