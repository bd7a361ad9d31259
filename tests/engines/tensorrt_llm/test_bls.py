"""Drafting and verifying over two native models: what is kept is the target's, whatever the draft says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling
from slipstream.engines.tensorrt_llm.contract import ContractViolation
from slipstream.engines.tensorrt_llm.runtime.bls import DRAFT_MODEL, TARGET_MODEL, BlsRuntime
from slipstream.engines.tensorrt_llm.runtime.sampling import native_tensors
from slipstream.engines.tensorrt_llm.runtime.served import EngineUnreadable
from tests.engines.tensorrt_llm import fake_pb_utils
from tests.engines.tensorrt_llm.conftest import SPECULATIONS, served_engine, toy_models, write_engine
from tests.engines.tensorrt_llm.fake_pb_utils import ToyNativeModel
from tests.engines.tensorrt_llm.test_runtimes import PROMPT, ask, greedy
from tests.engines.tensorrt_llm.toy_model import DRAFT_TOKENS, ENDING, ToyModel

DRAFT = SPECULATIONS["bls-draft"]


class Stand:
    """A runtime and the models that it calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, agreement: float = 0.8, **options: Any) -> None:
        engine = served_engine("engine", **options)
        self.models = toy_models(folder, engine, agreement)
        fake_pb_utils.install(monkeypatch, self.models)
        write_engine(folder, engine)
        self.runtime = BlsRuntime(folder, RuntimeOptions(max_concurrency=4, tokenizer=folder / "tokenizer.json"))

    @property
    def target(self) -> ToyNativeModel:
        return self.models[TARGET_MODEL]

    @property
    def draft(self) -> ToyNativeModel:
        return self.models[DRAFT_MODEL]


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    made = Stand(tmp_path, monkeypatch, **DRAFT)
    yield made
    made.runtime.close()


class TestDraft:
    @pytest.mark.parametrize("agreement", [0.0, 0.5, 1.0])
    def test_100_greedy_answers_are_the_targets_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agreement: float
    ) -> None:
        stand = Stand(tmp_path, monkeypatch, agreement, **DRAFT)
        prompts = [[ENDING if number % 3 else 12, *([number % 50 + 10] * (number % 37))] for number in range(100)]
        readers = [ask(stand.runtime, prompt, max_tokens=number % 24 + 1) for number, prompt in enumerate(prompts)]
        answers = [reader.wait().tokens for reader in readers]
        assert answers == [greedy(prompt, number % 24 + 1) for number, prompt in enumerate(prompts)]
        assert {end for reader in readers for end in reader.ends} == {"stop", "length"}
        stand.runtime.close()

    def test_one_that_agrees_saves_steps_of_the_target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stand = Stand(tmp_path, monkeypatch, 1.0, **DRAFT)
        ask(stand.runtime, max_tokens=50).wait()
        metrics = stand.runtime.metrics()
        assert (metrics.extra["steps"], metrics.proposed, metrics.accepted) == (10, 40, 40)
        stand.runtime.close()

    def test_one_that_disagrees_costs_a_step_a_token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stand = Stand(tmp_path, monkeypatch, 0.0, **DRAFT)
        ask(stand.runtime, max_tokens=8).wait()
        metrics = stand.runtime.metrics()
        proposed = 4 + 4 + 4 + 4 + 3 + 2 + 1  # never more than leaves the target a token of its own; none at last
        assert (metrics.extra["steps"], metrics.proposed, metrics.accepted) == (8, proposed, 0)
        stand.runtime.close()

    def test_what_is_counted_as_accepted_is_what_was_proposed_and_kept(self, stand: Stand) -> None:
        tokens = ask(stand.runtime, max_tokens=60).wait().tokens
        requests = [request for request in stand.target.requests if "draft_input_ids" in request]
        accepted = 0
        for request in requests:
            context = request["input_ids"][0].tolist()
            proposal = request["draft_input_ids"][0].tolist()
            kept = (PROMPT + tokens)[len(context) :]
            while proposal and kept and proposal[0] == kept[0]:
                accepted += 1
                del proposal[0], kept[0]
        metrics = stand.runtime.metrics()
        assert 0 < metrics.accepted == accepted < metrics.proposed
        assert metrics.proposed == sum(request["draft_input_ids"].size for request in requests)

    def test_an_end_that_the_target_keeps_to_itself_costs_no_further_round(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand = Stand(tmp_path, monkeypatch, 1.0, **DRAFT)
        prompt = [ENDING] + [11] * 30  # ends at position 40, after nine tokens
        assert len(ask(stand.runtime, prompt, max_tokens=50).wait().tokens) == 9
        metrics = stand.runtime.metrics()
        assert metrics.extra["steps"] == 2  # four proposals and one of its own each; the second own one is the end
        assert (metrics.proposed, metrics.accepted) == (8, 8)
        stand.runtime.close()

    def test_each_round_asks_with_what_was_generated_so_that_blocks_are_found_again(self, stand: Stand) -> None:
        tokens = ask(stand.runtime, max_tokens=30).wait().tokens
        for model in (stand.target, stand.draft):
            asked = [request["input_ids"][0].tolist() for request in model.requests]
            assert asked[0] == PROMPT
            assert all((PROMPT + tokens)[: len(ids)] == ids for ids in asked)
            assert model.config.parameters["enable_kv_cache_reuse"].string_value == "true"

    def test_a_sampled_answer_follows_its_seed_and_no_round_repeats_another_ones_luck(self, stand: Stand) -> None:
        first, again = (ask(stand.runtime, max_tokens=40, temperature=1.0, seed=5).wait().tokens for _ in range(2))
        assert first == again
        seeds = [int(request["seed"][0, 0]) for request in stand.target.requests[: len(stand.target.requests) // 2]]
        assert seeds[0] == 5
        assert len(set(seeds)) == len(seeds) > 10

    def test_the_draft_guesses_the_likeliest_where_the_target_samples(self, stand: Stand) -> None:
        ask(stand.runtime, max_tokens=20, temperature=1.0, seed=5).wait()
        assert all(request["runtime_top_k"].item() == 1 for request in stand.draft.requests)
        assert not any("runtime_top_k" in request for request in stand.target.requests)

    def test_a_grammar_is_left_to_the_target_which_would_begin_it_anew_in_every_round(self, stand: Stand) -> None:
        assert ask(stand.runtime, grammar='root ::= "abcdef"', max_tokens=50).wait().ends == ["stop"]
        assert (len(stand.target.requests), len(stand.draft.requests)) == (1, 0)
        assert stand.target.requests[0]["guided_decoding_guide_type"].tolist() == [[b"ebnf_grammar"]]

    def test_a_draft_that_breaks_is_an_error_and_no_end(self, stand: Stand) -> None:
        stand.draft.broken = True
        reader = ask(stand.runtime).wait()
        assert reader.ends == ["error"]
        assert "tensorrt_llm_draft: CUDA error" in reader.deltas[-1].error
        stand.draft.broken = False
        assert len(ask(stand.runtime).wait().tokens) == 8

    def test_a_longer_proposal_than_the_engine_verifies_is_the_backends_error(self, stand: Stand) -> None:
        stand.target.draft_tokens = DRAFT_TOKENS - 1
        assert "verifies at most 3" in ask(stand.runtime).wait().deltas[-1].error


class TestStream:
    def test_requests_are_in_flight_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stand = Stand(tmp_path, monkeypatch)
        for reader in [ask(stand.runtime, max_tokens=200) for _ in range(6)]:
            reader.wait()
        assert stand.target.peak == 4
        assert all(request["streaming"].item() for request in stand.target.requests)
        stand.runtime.close()

    def test_a_stop_that_overtakes_its_request_is_said_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand = Stand(tmp_path, monkeypatch)
        heard: list[str] = []
        execute = stand.target.execute

        def deaf_once(request_id: str, tensors: Any) -> Any:
            if "stop" in tensors:
                heard.append(request_id)
                if len(heard) == 1:
                    return iter([{}])
            return execute(request_id, tensors)

        monkeypatch.setattr(stand.target, "execute", deaf_once)
        reader = ask(stand.runtime, max_tokens=1900).wait_for(1)
        stand.runtime.cancel(reader.generation_id)
        assert reader.wait().ends == ["cancelled"]
        assert len(heard) > 1
        assert stand.target.running == 0
        stand.runtime.close()

    def test_a_model_that_is_not_loaded_is_an_error_of_the_request(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand = Stand(tmp_path, monkeypatch)
        fake_pb_utils.install(monkeypatch, {})
        assert "'tensorrt_llm' is not ready" in ask(stand.runtime).wait().deltas[-1].error
        stand.runtime.close()

    def test_a_backend_that_proposes_by_itself_says_how_well(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand = Stand(tmp_path, monkeypatch, speculative={"method": "lookahead"})
        assert stand.target.config.parameters["decoding_mode"].string_value == "lookahead"
        ask(stand.runtime, max_tokens=20).wait()
        assert stand.target.requests[0]["return_perf_metrics"].item() is True
        metrics = stand.runtime.metrics()
        assert (metrics.proposed, metrics.accepted) == fake_pb_utils.LOOKAHEAD_COUNTS
        stand.runtime.close()


class TestTensors:
    """What one request is in the backend's terms."""

    def tensors(self, **sampling: Any) -> dict[str, Any]:
        request = GenerationRequest("one", PROMPT, Sampling(**{"max_tokens": 7, **sampling}))
        made = native_tensors(list(PROMPT), 7, request, served_engine("engine"))
        return {name: value.tolist() for name, value in made.items()}

    def test_greedy_is_the_likeliest_of_one(self) -> None:
        assert self.tensors() == {
            "input_ids": [PROMPT],
            "input_lengths": [[3]],
            "request_output_len": [[7]],
            "end_id": [[2]],
            "pad_id": [[2]],
            "beam_width": [[1]],
            "stop_words_list": [[[3], [1]]],
            "runtime_top_k": [[1]],
            "exclude_input_in_output": [[True]],
            "streaming": [[False]],
        }

    def test_sampled_has_temperature_nucleus_and_seed(self) -> None:
        made = self.tensors(temperature=0.5, top_p=0.75, seed=8)
        assert (made["temperature"], made["runtime_top_p"], made["seed"]) == ([[0.5]], [[0.75]], [[8]])
        assert "runtime_top_k" not in made

    def test_ignoring_ends_forbids_them(self) -> None:
        made = self.tensors(ignore_eos=True)
        assert (made["min_tokens"], made["bad_words_list"]) == ([[7]], [[[3], [1]]])
        assert "stop_words_list" not in made

    def test_each_is_checked_against_the_contract(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from slipstream.engines.tensorrt_llm.runtime import sampling

        monkeypatch.setattr(sampling, "_words", lambda tokens: np.array([tokens], np.int32))
        with pytest.raises(ContractViolation, match="stop_words_list has shape"):
            self.tensors()


def test_a_folder_without_a_description_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pb_utils.install(monkeypatch, {})
    with pytest.raises(EngineUnreadable, match="not a TensorRT-LLM engine"):
        BlsRuntime(tmp_path, RuntimeOptions())


def test_the_toys_of_these_tests_disagree_where_they_are_told_to() -> None:
    """Else every draft would be accepted, and nothing proved."""
    contexts = [[10, first, second] for first in range(10, 40) for second in range(10, 40)]
    same = [
        np.argmax(ToyModel().logits(context)) == np.argmax(ToyModel(1, 0.8).logits(context)) for context in contexts
    ]
    assert 0.75 < sum(same) / len(same) < 0.87
