"""Configurations of the native TensorRT-LLM models: what is rendered, and what would be refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from slipstream.engines.tensorrt_llm.contract import ContractViolation
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.triton.tensorrt_llm_graph import (
    check_model_config,
    native_models,
    orchestration,
    render_native,
)
from tests.engines.tensorrt_llm.conftest import SPECULATIONS, served_engine

ENGINE = Path("/bundles/x/engine")
TOKENIZER_INFO = Path("/repository/tensorrt_llm/xgrammar_tokenizer_info.json")


def configs(engine: ServedEngine, tokenizer_info: Path | None = TOKENIZER_INFO) -> dict[str, Any]:
    models = native_models(ENGINE, engine, 8, tokenizer_info)
    return {model.name: text_format.Parse(render_native(model), ModelConfig()) for model in models}


def parameters(config: Any) -> dict[str, str]:
    return {name: entry.string_value for name, entry in config.parameters.items()}


class TestRendered:
    def test_a_target_streams_batches_in_flight_and_keeps_blocks(self) -> None:
        (config,) = configs(served_engine("engine")).values()
        assert (config.name, config.backend, config.max_batch_size) == ("tensorrt_llm", "tensorrtllm", 4)
        assert config.model_transaction_policy.decoupled
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 16
        assert parameters(config) == {
            "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
            "gpt_model_type": "inflight_fused_batching",
            "gpt_model_path": "/bundles/x/engine/target",
            "batch_scheduler_policy": "guaranteed_no_evict",
            "max_beam_width": "1",
            "exclude_input_in_output": "true",
            "cancellation_check_period_ms": "20",
            "enable_chunked_context": "true",
            "enable_kv_cache_reuse": "true",
            "kv_cache_free_gpu_mem_fraction": "0.9000",
            "executor_worker_path": "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker",
            "decoding_mode": "top_k_top_p",
            "tokenizer_dir": "",
            "guided_decoding_backend": "xgrammar",
            "xgrammar_tokenizer_info_path": str(TOKENIZER_INFO),
        }

    def test_two_caches_hold_as_many_tokens_and_take_no_more_than_one_would(self) -> None:
        both = configs(served_engine("engine", **SPECULATIONS["bls-draft"]))
        assert list(both) == ["tensorrt_llm", "tensorrt_llm_draft"]
        for config in both.values():  # the order in which they load decides nothing
            assert parameters(config)["max_tokens_in_paged_kv_cache"] == "8192"
            assert parameters(config)["kv_cache_free_gpu_mem_fraction"] == "0.9000"
            assert config.dynamic_batching.default_queue_policy.max_queue_size == 16  # a request and its stop, of each
        assert parameters(both["tensorrt_llm_draft"])["gpt_model_path"] == "/bundles/x/engine/draft"

    def test_lookahead_has_its_three_sizes(self) -> None:
        speculative = {"method": "lookahead", "max_window_size": 5, "max_ngram_size": 4, "max_verification_set_size": 6}
        (config,) = configs(served_engine("engine", speculative=speculative)).values()
        found = parameters(config)
        assert found["decoding_mode"] == "lookahead"
        sizes = (found[f"lookahead_{name}_size"] for name in ("window", "ngram", "verification_set"))
        assert tuple(sizes) == ("5", "4", "6")

    def test_several_gpus_are_named_and_driven_by_an_orchestrator(self) -> None:
        engine = served_engine("engine", tensor_parallel=4)
        (config,) = configs(engine).values()
        assert parameters(config)["gpu_device_ids"] == "0,1,2,3"
        assert orchestration(engine) == {"TRTLLM_ORCHESTRATOR": "1"}
        assert orchestration(served_engine("engine")) == {}

    def test_without_grammars_the_backend_is_told_of_no_tokenizer(self) -> None:
        (config,) = configs(served_engine("engine"), None).values()
        assert parameters(config)["guided_decoding_backend"] == parameters(config)["xgrammar_tokenizer_info_path"] == ""


def _set(name: str, value: str) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        config.parameters[name].string_value = value

    return change


def _without(side: str, name: str) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        tensors = getattr(config, side)
        kept = [tensor for tensor in tensors if tensor.name != name]
        del tensors[:]
        tensors.extend(kept)

    return change


def _tensor(side: str, name: str, **fields: Any) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        (tensor,) = (tensor for tensor in getattr(config, side) if tensor.name == name)
        for field, value in fields.items():
            if field == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, field, value)

    return change


def _gpu(config: Any) -> None:
    config.instance_group[0].kind = ModelInstanceGroup.KIND_GPU


class TestRefused:
    """Every change to a configuration that passes, and the words that say what is wrong with it."""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (_set("gpt_model_path", "${engine_dir}"), "placeholder"),
            (_set("enable_trt_overlap", "true"), "no parameter 'enable_trt_overlap'"),
            (_set("kv_cache_free_gpu_mem_fraction", "1.5"), "lies in"),
            (_set("max_beam_width", "wide"), "is int"),
            (_set("gpt_model_type", "V1"), "does not batch in flight"),
            (_set("max_beam_width", "4"), "needs decoding_mode beam_search"),
            (_set("decoding_mode", "lookahead"), "needs lookahead_window_size, lookahead_ngram_size"),
            (_set("decoding_mode", "medusa"), "needs medusa_choices"),
            (_set("xgrammar_tokenizer_info_path", ""), "needs xgrammar_tokenizer_info_path"),
            (lambda config: config.parameters.pop("gpt_model_path"), "needs the parameters gpt_model_path"),
            (lambda config: config.ClearField("name"), "''"),
            (lambda config: setattr(config, "backend", "tensorrt"), "backend 'tensorrt'"),
            (lambda config: setattr(config, "max_batch_size", 0), "no dimension for a batch"),
            (lambda config: config.ClearField("model_transaction_policy"), "only a decoupled model streams"),
            (lambda config: setattr(config.response_cache, "enable", True), "response cache"),
            (lambda config: config.ClearField("dynamic_batching"), "dynamic_batching"),
            (lambda config: config.dynamic_batching.preferred_batch_size.append(5), "preferred_batch_size"),
            (lambda config: setattr(config.instance_group[0], "count", 2), "one KIND_CPU instance"),
            (_gpu, "one KIND_CPU instance"),
            (lambda config: config.instance_group[0].gpus.append(0), "one KIND_CPU instance"),
            (_without("input", "input_lengths"), "inputs input_lengths are not declared"),
            (_without("output", "output_ids"), "outputs output_ids are not declared"),
            (lambda config: config.input.add(name="prompt"), "input prompt is unknown"),
            (lambda config: config.output.add().CopyFrom(config.output[0]), "declared twice"),
            (_tensor("input", "seed", data_type=9), "seed is UINT64, not INT64"),
            (_tensor("input", "draft_logits", data_type=13), "not BYTES"),
            (_tensor("output", "output_ids", dims=[-1]), "output_ids has dims"),
            (_tensor("input", "input_lengths", optional=True), "optional is"),
        ],
    )
    def test_one_change_is_refused_with_its_place(self, change: Callable[[Any], Any], says: str) -> None:
        (config,) = configs(served_engine("engine")).values()
        check_model_config(config)
        change(config)
        with pytest.raises(ContractViolation, match=says):
            check_model_config(config)
