"""What can be quantized how, for which GPU and mode: decided from the recipe and the shape, before any work."""

from typing import Any

import pytest

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.quantization import (
    UnsupportedQuantization,
    check_draft,
    check_quantization,
)
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, known_shape

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QWEN = "Qwen/Qwen2.5-Coder-7B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct"
AWQ: dict[str, Any] = {"method": "awq", "group_size": 128, "symmetric": True}
GPTQ = {**AWQ, "method": "gptq"}


def shape(name: str = LLAMA, **changed: Any) -> ModelShape:
    known = known_shape(f"hf:{name}")
    assert known is not None
    return known.model_copy(update=changed)


def check(spec: dict[str, Any], of: ModelShape | None = None, **options: Any) -> None:
    section = TensorRtLlmOptions.model_validate({"gpu": "l40s", **options})
    check_quantization(QuantizationSpec(**spec), section, of or shape())


@pytest.mark.parametrize(
    ("spec", "of", "options", "said", "remedy"),
    [
        ({"method": "awq_gptq"}, None, {}, "no algorithm for quantization.method awq_gptq", "none, awq, gptq, fp8"),
        ({**AWQ, "bits": 8}, None, {}, "not 8 bits, symmetric", "bits: 4"),
        ({**AWQ, "symmetric": False}, None, {}, "asymmetric", "symmetric: true"),
        ({**AWQ, "ratio": 0.8}, None, {}, "ratio 0.8", "ratio: 1.0"),
        ({**AWQ, "group_size": 32}, None, {}, "groups of 64 and 128, not 32", "group_size: 128"),
        (AWQ, shape(intermediate_size=14400), {}, "does not divide the 14400 inputs of mlp.proj", "group_size: 64"),
        (AWQ, shape(max_position_embeddings=9215), {}, "exceeds the 9215 positions", "max_seq_len: 9215"),
        (
            {"method": "fp8"},
            shape(intermediate_size=14338),
            {"tensor_parallel": 4},
            "width 14338 cannot be",
            "divides it",
        ),
        ({"method": "none"}, shape(DEEPSEEK), {"gpu": "h100"}, "takes no --dtype auto", "dtype: bfloat16"),
        (AWQ, shape(intermediate_size=14336 + 1), {}, "does not divide the 14337", "smaller tensor_parallel"),
        (AWQ, shape(QWEN), {"tensor_parallel": 8}, "28 attention heads and 4 KV heads", "a number that divides"),
        (
            AWQ,
            shape(intermediate_size=64 * 3 * 4),
            {"tensor_parallel": 4},
            "128 does not divide the 192 inputs of mlp.proj on one GPU",
            "group_size: 64",
        ),
        ({"method": "fp8"}, None, {"gpu": "a10g"}, "FP8 has no kernels for compute capability 8.6", "8.9, 9.0"),
        (
            AWQ,
            None,
            {"gpu": {"memory_mib": 97887, "compute_capability": "12.0"}},
            "W4A16_AWQ has no kernels for compute capability 12.0",
            "8.0, 8.6",
        ),
        (GPTQ, None, {"mode": "llmapi"}, "mode llmapi has no quantization.method gptq", "awq, fp8, none"),
        (AWQ, shape(model_type="gpt2"), {}, "builds no 'gpt2' model", "llama, mistral, qwen2"),
        (AWQ, shape(DEEPSEEK), {"gpu": "h100"}, "no quantization.method awq for deepseek_v2", "one of: none"),
        (
            {"method": "none"},
            shape(DEEPSEEK),
            {"gpu": "l40s", "dtype": "bfloat16"},
            "MLA kernels of engines are Hopper's",
            "h100",
        ),
        ({"method": "none"}, shape(DEEPSEEK), {"mode": "llmapi"}, "mode llmapi builds no 'deepseek_v2'", "llama"),
        (GPTQ, shape(QWEN), {"kv_cache": {"dtype": "fp8"}}, "gets no scales for an FP8 KV cache", "dtype: auto"),
        (AWQ, None, {"gemm_plugin": "fp8"}, "gemm_plugin fp8 needs FP8 weights", "gemm_plugin: auto"),
    ],
)
def test_what_has_no_kernel_is_refused_with_a_way_out(
    spec: dict[str, Any], of: ModelShape | None, options: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(UnsupportedQuantization) as refused:
        check(spec, of, **options)
    assert said in refused.value.message
    assert remedy in refused.value.remedy


def test_a_draft_has_to_be_of_a_family_that_is_converted_and_to_share_out_as_well() -> None:
    section = TensorRtLlmOptions.model_validate({"gpu": "a10g", "tensor_parallel": 4})
    small = shape("Qwen/Qwen2.5-Coder-0.5B-Instruct")
    check_quantization(QuantizationSpec(**GPTQ), section, shape(QWEN))
    with pytest.raises(UnsupportedQuantization, match=r"speculative.draft_model: 14 attention heads and 2 KV heads"):
        check_draft(section, small)
    section = TensorRtLlmOptions.model_validate({"gpu": "a10g", "tensor_parallel": 2})
    check_draft(section, small)
    with pytest.raises(UnsupportedQuantization, match=r"speculative.draft_model: mode engine builds no 'gemma2'"):
        check_draft(section, small.model_copy(update={"model_type": "gemma2"}))


@pytest.mark.parametrize(
    ("spec", "of", "options"),
    [
        (AWQ, None, {}),
        (AWQ, None, {"mode": "llmapi", "gpu": "h200", "kv_cache": {"dtype": "fp8"}}),
        ({"method": "fp8"}, None, {"gemm_plugin": "fp8", "kv_cache": {"dtype": "fp8"}}),
        (GPTQ, shape(QWEN), {"gpu": "a10g"}),
        ({"method": "none"}, shape(DEEPSEEK), {"gpu": "h100", "dtype": "bfloat16"}),
        (AWQ, shape(max_position_embeddings=4096, rope_scaling={"type": "yarn", "factor": 4.0}), {}),
        ({"method": "none"}, None, {"mode": "llmapi", "kv_cache": {"dtype": "fp8"}}),
        (AWQ, None, {"tensor_parallel": 8}),
    ],
)
def test_what_has_one_passes(spec: dict[str, Any], of: ModelShape | None, options: dict[str, Any]) -> None:
    check(spec, of, **options)
