"""Whether speculation pays: what is kept of what was measured, and a measurement of real engines."""

import json
from pathlib import Path
from random import Random

import pytest

from slipstream.build.draft.measure import (
    NONE,
    Candidate,
    Measured,
    Speed,
    candidates,
    choose,
    measure,
    prompts_needed,
    speculation,
)
from slipstream.build.draft.prompts import Asked, EngineGaveNoAnswer
from slipstream.build.evaluation.table import speculation_lines
from slipstream.build.options import DraftOptions
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import Emit, GenerationRequest, RuntimeMetrics, RuntimeOptions, TokenDelta
from tests.engines.conftest import compile_tiny_engine

LOOKUP, DRAFT = Candidate("prompt_lookup", 2), Candidate("draft", 4)


def seen(candidate: Candidate, alone: float, spread: float = 0.02, loaded: float = 1.0) -> Measured:
    return Measured(candidate, 0.5, 1.5, Speed(100 * alone, 1, alone, spread), Speed(300 * loaded, 1, loaded, 0.01))


class TestChoice:
    def test_a_gain_within_its_spread_is_none(self) -> None:
        kept, why = choose([seen(NONE, 1), seen(LOOKUP, 1.1, spread=0.11)])
        assert kept == NONE
        assert why == (
            "none is kept: the nearest, prompt_lookup 2, "
            "has 1.10 ± 0.11 times the speed of none alone, 1.00 at 8 streams"
        )

    def test_a_gain_alone_does_not_outweigh_a_loss_at_streams(self) -> None:
        assert choose([seen(NONE, 1), seen(DRAFT, 1.5, loaded=0.94)])[0] == NONE
        assert choose([seen(NONE, 1), seen(DRAFT, 1.5, loaded=0.96)])[0] == DRAFT

    def test_the_fastest_of_those_that_pay_is_kept(self) -> None:
        kept, why = choose([seen(NONE, 1), seen(LOOKUP, 1.2), seen(DRAFT, 1.3), seen(Candidate("draft", 2), 9, 9)])
        assert kept == DRAFT
        assert why.startswith("draft 4 is kept: 1.30 ± 0.02 times the speed of none alone")

    def test_what_is_slower_is_not_kept_however_often_it_is_accepted(self) -> None:
        assert choose([seen(NONE, 1), seen(DRAFT, 0.8)])[0] == NONE

    def test_with_nothing_tried_nothing_is_kept(self) -> None:
        assert choose([seen(NONE, 1)])[0] == NONE


class TestCandidates:
    def test_auto_tries_every_method_with_every_length_beside_none(self) -> None:
        tried = candidates(DraftOptions(method="auto", lengths=(2, 4)))
        assert [one.name for one in tried] == ["none", "prompt_lookup 2", "prompt_lookup 4", "draft 2", "draft 4"]

    def test_distilled_tries_the_draft_alone(self) -> None:
        assert candidates(DraftOptions(method="distilled", lengths=(3,))) == [NONE, Candidate("draft", 3)]
        assert candidates(DraftOptions()) == [NONE]

    def test_each_is_loaded_as_it_says(self) -> None:
        assert speculation(NONE, Path("draft")) is None
        told = speculation(LOOKUP, Path("draft")), speculation(DRAFT, Path("draft"))
        assert [(one.method, one.tokens, one.engine) for one in told if one] == [
            ("prompt_lookup", 2, None), ("draft", 4, Path("draft")),
        ]  # fmt: skip


class Refusing:
    """A runtime that answers nothing."""

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        emit(TokenDelta(request.generation_id, (), "error", "no room"))

    def cancel(self, generation_id: str) -> bool:
        return False

    def metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics()

    def close(self) -> None:
        self.closed = True


class Saying(Refusing):
    """Answers each prompt with three tokens and the end, in two steps: two of the four were proposed and accepted."""

    def __init__(self) -> None:
        self.proposed = self.accepted = 0

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        self.proposed += 3
        self.accepted += 2
        emit(TokenDelta(request.generation_id, (5, 6, 7)))
        emit(TokenDelta(request.generation_id, (), "stop"))

    def metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics(proposed=self.proposed, accepted=self.accepted)


class Silent(Refusing):
    """Ends every answer before its first token."""

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        emit(TokenDelta(request.generation_id, (), "stop"))


def asked(rounds: int) -> list[Asked]:
    random = Random(2)  # noqa: S311
    return [Asked([random.randrange(3, 250) for _ in range(12)], "") for _ in range(prompts_needed(rounds))]


def test_an_engine_that_fails_is_named_and_all_are_closed() -> None:
    refusing = Refusing()
    with pytest.raises(EngineGaveNoAnswer, match="no room"):
        measure({NONE: lambda: refusing}, asked(1), lambda *_: None, rounds=1)
    assert refusing.closed


def test_the_end_of_an_answer_is_a_token_of_a_step() -> None:
    report = measure({NONE: Silent, LOOKUP: Saying}, asked(1), lambda *_: None, rounds=1)
    none, lookup = report.measured
    assert (lookup.acceptance_rate, lookup.tokens_per_step) == (pytest.approx(2 / 3), 2.0)
    assert (none.acceptance_rate, none.tokens_per_step) == (None, 1.0)  # said nothing, and is no division by zero


def test_real_engines_take_turns(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = compile_tiny_engine(tmp_path_factory.getbasetemp())
    draft = Candidate("draft", 3)

    def load(candidate: Candidate) -> OpenVinoRuntime:
        options = RuntimeOptions(8, 16 << 20, speculation=speculation(candidate, engine))
        return OpenVinoRuntime(engine, options)

    told: list[float] = []
    tried = (NONE, LOOKUP, draft)
    load_each = {one: lambda one=one: load(one) for one in tried}
    report = measure(load_each, asked(2), lambda share, doing: told.append(share), rounds=2)  # type: ignore[arg-type]
    none, lookup, itself = report.measured
    assert (none.acceptance_rate, none.tokens_per_step) == (None, 1.0)
    assert (none.alone.gain, none.alone.gain_spread, none.loaded.gain) == pytest.approx((1, 0, 1))
    assert lookup.acceptance_rate is not None
    assert itself.acceptance_rate is not None
    assert itself.acceptance_rate > 0.8  # the engine is its own draft
    assert 1 < itself.tokens_per_step <= 4
    assert all(one.alone.tokens_per_s > 0 and one.loaded.tokens_per_s > 0 for one in report.measured)
    assert told == sorted(told)
    assert json.loads(json.dumps(report.as_dict()))["kept"]["method"] in ("none", "prompt_lookup", "draft")
    assert any(line.startswith("| draft 3") for line in speculation_lines(report.as_dict()))
