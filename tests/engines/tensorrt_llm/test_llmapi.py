"""Driving ``tensorrt_llm.LLM``: its arguments, its streams, and what it tells of itself."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling
from slipstream.engines.tensorrt_llm.compiling.serving import served_engine as built_engine
from slipstream.engines.tensorrt_llm.contract import ContractViolation
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape
from slipstream.engines.tensorrt_llm.runtime import llmapi
from slipstream.engines.tensorrt_llm.runtime.llm_arguments import llm_arguments
from slipstream.engines.tensorrt_llm.runtime.llmapi import EngineNotLoaded, LlmApiRuntime
from slipstream.engines.tensorrt_llm.runtime.sampling import sampling_arguments
from slipstream.engines.tensorrt_llm.runtime.served import EngineUnreadable, ServedEngine
from tests.engines.tensorrt_llm import fake_llm
from tests.engines.tensorrt_llm.conftest import served_engine, write_engine
from tests.engines.tensorrt_llm.fake_llm import LLM
from tests.engines.tensorrt_llm.test_runtimes import PROMPT, ask, greedy, until

SHAPE = ModelShape(
    architectures=("LlamaForCausalLM",),
    model_type="llama",
    vocab_size=64,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    max_position_embeddings=16384,
)
ARGUMENTS: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "max_batch_size": 4,
    "max_seq_len": 2048,
    "kv_cache_config": {"enable_block_reuse": True, "free_gpu_memory_fraction": 0.8},
}
DRAFT_TARGET: dict[str, Any] = {
    "disable_overlap_scheduler": True,
    "speculative_config": {"decoding_type": "DraftTarget", "max_draft_len": 4, "speculative_model": "draft"},
}


def engine(folder: Path, **arguments: Any) -> ServedEngine:
    speculative = arguments.get("speculative_config", {})
    options = {"speculative": {"method": "ngram"}} if speculative else {}
    made = served_engine("llmapi", **options).model_copy(update={"llm_arguments": {**ARGUMENTS, **arguments}})
    write_engine(folder, made)
    return made


@pytest.fixture
def options(tmp_path: Path) -> RuntimeOptions:
    return RuntimeOptions(max_concurrency=4, tokenizer=tmp_path / "tokenizer.json")


@pytest.fixture
def runtime(tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch) -> Iterator[LlmApiRuntime]:
    fake_llm.install(monkeypatch)
    engine(tmp_path, **DRAFT_TARGET)
    loaded = LlmApiRuntime(tmp_path, options)
    yield loaded
    loaded.close()


class TestArguments:
    def test_are_the_engines_with_the_paths_of_where_it_lies(self, tmp_path: Path) -> None:
        made = llm_arguments(tmp_path, engine(tmp_path, **DRAFT_TARGET), Path("/tokenizer"))
        assert made["model"] == str(tmp_path / "target")
        assert made["speculative_config"]["speculative_model"] == str(tmp_path / "draft")
        assert (made["tokenizer"], made["guided_decoding_backend"]) == ("/tokenizer", "xgrammar")
        assert made["return_perf_metrics"] is made["enable_iter_perf_stats"] is True
        assert made.items() >= {name: ARGUMENTS[name] for name in ARGUMENTS}.items()

    @pytest.mark.parametrize("method", ["none", "ngram", "draft_target", "eagle"])
    def test_of_every_way_to_speculate_are_what_the_library_takes(
        self, tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        draft = {"draft_model": "hf:a/draft"} if method in ("draft_target", "eagle") else {}
        recipe = TensorRtLlmOptions.model_validate(
            {"mode": "llmapi", "gpu": "h100", "speculative": {"method": method, **draft}}
        )
        write_engine(tmp_path, built_engine(recipe, SHAPE, SHAPE if draft else None, (2,)))
        fake_llm.install(monkeypatch)
        runtime = LlmApiRuntime(tmp_path, options)
        assert len(ask(runtime, max_tokens=20).wait().tokens) == 20
        runtime.close()
        given = LLM.latest.arguments.get("speculative_config")
        assert (given is None) is (method == "none")
        assert (getattr(given, "speculative_model", None) == str(tmp_path / "draft")) is bool(draft)

    def test_without_grammars_no_tokenizer_is_loaded(self, tmp_path: Path) -> None:
        made = llm_arguments(tmp_path, engine(tmp_path), None)
        assert made["skip_tokenizer_init"] is True
        assert "guided_decoding_backend" not in made

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"quant_config": {}}, "quant_config"),
            ({"max_batch_size": "4"}, "max_batch_size"),
            ({"speculative_config": {"decoding_type": "Lookahead"}}, "refuses decoding_type Lookahead"),
            ({"speculative_config": DRAFT_TARGET["speculative_config"]}, "disable_overlap_scheduler"),
        ],
    )
    def test_that_1_2_1_refuses_never_reach_it(self, tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(ContractViolation, match=says):
            llm_arguments(tmp_path, engine(tmp_path, **arguments), None)

    def test_of_grammars_bring_a_tokenizer_for_as_long_as_the_library_runs(self, runtime: LlmApiRuntime) -> None:
        folder = Path(LLM.latest.arguments["tokenizer"])
        assert (folder / "tokenizer_config.json").exists()
        runtime.close()
        assert not folder.exists()

    def test_a_tokenizer_of_another_model_is_refused(
        self, tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_llm.install(monkeypatch)
        engine(tmp_path)
        (tmp_path / "tokenizer.json").write_text('{"added_tokens": []}')
        with pytest.raises(EngineUnreadable, match="no tokenizer of this engine"):
            LlmApiRuntime(tmp_path, options)

    def test_reach_the_library_as_its_own_objects(self, runtime: LlmApiRuntime, tmp_path: Path) -> None:
        given = LLM.latest.arguments
        assert isinstance(given["kv_cache_config"], fake_llm.KvCacheConfig)
        assert given["kv_cache_config"].given == ARGUMENTS["kv_cache_config"]
        assert isinstance(given["speculative_config"], fake_llm.DraftTargetDecodingConfig)
        assert given["speculative_config"].given == {"max_draft_len": 4, "speculative_model": str(tmp_path / "draft")}


class TestSampling:
    """What one request is in the library's terms."""

    def arguments(self, grammar: str = "", **sampling: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        request = GenerationRequest("one", PROMPT, Sampling(**{"max_tokens": 7, **sampling}), grammar)
        return sampling_arguments(request, served_engine("llmapi"))

    def test_greedy_is_the_likeliest_of_one_until_either_end(self) -> None:
        common = {"end_id": 2, "pad_id": 2, "max_tokens": 7, "detokenize": False}
        assert self.arguments() == ({**common, "stop_token_ids": [3], "top_k": 1}, {})

    def test_sampled_has_temperature_nucleus_and_seed(self) -> None:
        made, _ = self.arguments(temperature=0.5, top_p=0.75, seed=8)
        assert made.items() >= {"temperature": 0.5, "top_p": 0.75, "seed": 8}.items()
        assert "top_k" not in made

    def test_ignoring_ends_forbids_them(self) -> None:
        made, _ = self.arguments(ignore_eos=True)
        assert made.items() >= {"min_tokens": 7, "bad_token_ids": [3]}.items()
        assert "stop_token_ids" not in made

    def test_a_grammar_is_a_guide(self) -> None:
        assert self.arguments(grammar="root ::= [a]")[1] == {"grammar": "root ::= [a]"}


class TestStream:
    def test_several_tokens_of_a_step_arrive_once_and_in_order(
        self, runtime: LlmApiRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LLM, "tokens_per_step", 5)
        reader = ask(runtime, max_tokens=33).wait()
        assert (reader.tokens, reader.ends) == (greedy(PROMPT, 33), ["length"])
        assert runtime.metrics().extra["steps"] == 7

    def test_no_more_are_asked_of_the_library_than_a_batch_holds(self, runtime: LlmApiRuntime) -> None:
        for reader in [ask(runtime, max_tokens=30) for _ in range(9)]:
            reader.wait()
        assert LLM.latest.peak == 4

    def test_a_cancel_reaches_the_library_before_its_next_token(
        self, runtime: LlmApiRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fake_llm, "STEP_S", 1.0)  # a long prompt, say
        reader = ask(runtime, max_tokens=100)
        until(lambda: bool(runtime._results))
        (result,) = runtime._results.values()
        runtime.cancel(reader.generation_id)
        until(lambda: result._aborted, 0.5)
        assert reader.wait().ends == ["cancelled"]

    def test_what_the_library_raises_is_the_requests_error(self, runtime: LlmApiRuntime) -> None:
        reader = ask(runtime, max_tokens=1000).wait_for(3)
        LLM.latest.broken = True
        assert reader.wait().ends == ["error"]
        assert "illegal memory access" in reader.deltas[-1].error
        LLM.latest.broken = False
        assert len(ask(runtime).wait().tokens) == 8

    def test_a_request_that_the_library_gave_up_is_no_answer(
        self, runtime: LlmApiRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reader = ask(runtime, max_tokens=1000).wait_for(3)
        (result,) = runtime._results.values()
        result.abort()  # by whom the runtime does not know
        assert reader.wait().ends == ["error"]
        assert "ended the request: cancelled" in reader.deltas[-1].error


class TestMetrics:
    def test_draft_tokens_are_those_that_the_library_counts(self, runtime: LlmApiRuntime) -> None:
        for _ in range(2):
            ask(runtime).wait()
        assert (runtime.metrics().proposed, runtime.metrics().accepted) == (16, 10)

    def test_the_cache_is_as_full_as_the_library_says(
        self, runtime: LlmApiRuntime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        readers = [ask(runtime, max_tokens=1900) for _ in range(2)]
        until(lambda: runtime.metrics().cache_usage_ratio == 0.5)
        for reader in readers:
            runtime.cancel(reader.generation_id)
            reader.wait()
        assert runtime.metrics().cache_usage_ratio == 0


class TestLoad:
    def test_a_machine_without_the_library_is_told_where_to_serve(
        self, tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine(tmp_path)
        monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
        with pytest.raises(EngineNotLoaded) as refused:
            LlmApiRuntime(tmp_path, options)
        assert "tritonserver:26.07-trtllm" in refused.value.remedy

    def test_a_model_that_does_not_load_is_a_fault_with_the_librarys_words(
        self, tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_llm.install(monkeypatch)
        engine(tmp_path)
        (tmp_path / "target" / "config.json").unlink()
        with pytest.raises(EngineNotLoaded, match=r"has no config\.json"):
            LlmApiRuntime(tmp_path, options)

    def test_closing_shuts_the_library_down(self, runtime: LlmApiRuntime) -> None:
        runtime.close()
        assert LLM.latest.is_shut_down

    def test_statistics_that_fail_end_nothing(
        self, tmp_path: Path, options: RuntimeOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[float] = []

        def failing(self: LLM, timeout: float) -> Any:
            asked.append(timeout)
            raise RuntimeError("no statistics")

        fake_llm.install(monkeypatch)
        monkeypatch.setattr(llmapi, "STATISTICS_PERIOD_S", 0.01)
        monkeypatch.setattr(LLM, "get_stats_async", failing)
        engine(tmp_path)
        runtime = LlmApiRuntime(tmp_path, options)
        assert len(ask(runtime, max_tokens=300).wait().tokens) == 300
        runtime.close()
        assert len(asked) == 1  # and is not tried again
