"""The memory plan, held against what real engines printed, and what it says when something does not fit."""

from typing import Any

import pytest

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import DoesNotFit, require_fit
from slipstream.engines.tensorrt_llm.planning.memory import (
    MIB,
    activation_bytes,
    buffer_bytes,
    footprint,
    plan_memory,
    weight_bytes,
)
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, known_shape

AWQ = QuantizationSpec(method="awq", group_size=128, symmetric=True)
GPTQ = QuantizationSpec(method="gptq", group_size=128, symmetric=True)
FP8 = QuantizationSpec(method="fp8")
PLAIN = QuantizationSpec(method="none")


def shape(name: str) -> ModelShape:
    known = known_shape(f"hf:{name}")
    assert known is not None
    return known


LLAMA = shape("meta-llama/Llama-3.1-8B-Instruct")
SMALL = shape("Qwen/Qwen2.5-Coder-0.5B-Instruct")
LATENT = shape("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct")
LLAMA_2 = LLAMA.model_copy(
    update={"vocab_size": 32000, "intermediate_size": 11008, "num_key_value_heads": 32, "max_position_embeddings": 4096}
)


def options(**fields: Any) -> TensorRtLlmOptions:
    return TensorRtLlmOptions.model_validate({"gpu": "l40s", **fields})


@pytest.mark.parametrize(
    ("batch", "tokens", "printed_mib"),
    [(2048, 8192, 773.51), (1, 512, 43.26)],  # NVIDIA/TensorRT-LLM#1188, comment of 2024-11-21
)
def test_activations_are_what_a_small_engine_printed(batch: int, tokens: int, printed_mib: float) -> None:
    section = options(max_batch_size=batch, max_num_tokens=tokens)
    assert activation_bytes(section, PLAIN, SMALL) / MIB == pytest.approx(printed_mib, rel=0.001)


def test_an_fp8_engine_printed_a_little_less_than_planned() -> None:
    """Llama-2-7B, FP8, TensorRT-LLM 0.12: benchmarks/Suite.md in NVIDIA's repository prints 928.77 MiB."""
    section = options(gpu="h100", max_batch_size=4096, max_num_tokens=8192, max_input_len=2048, max_seq_len=4098)
    assert 1.0 <= activation_bytes(section, FP8, LLAMA_2) / MIB / 928.77 < 1.05
    assert 1.0 <= buffer_bytes(section, LLAMA_2) / 2**30 / (1.14 + 4.35) < 1.05


def test_buffers_of_a_large_vocabulary_are_bounded_too() -> None:
    """2.66 GB for the runtime and 5.76 GB for the decoder, in the log of the small engine."""
    section = options(max_batch_size=2048, max_seq_len=32768)
    assert 1.0 <= buffer_bytes(section, SMALL) / 2**30 / (2.66 + 5.76) < 1.25


@pytest.mark.parametrize(
    ("spec", "of", "printed_mib"),
    [
        (PLAIN, LLAMA, 15388),  # NVIDIA/TensorRT-LLM#3636
        (FP8, LLAMA_2, 6695),  # the example in NVIDIA's memory reference page
    ],
)
def test_weights_are_the_size_of_the_engine(spec: QuantizationSpec, of: ModelShape, printed_mib: float) -> None:
    assert weight_bytes(options(), spec, of) / MIB == pytest.approx(printed_mib, rel=0.006)


def test_latent_attention_holds_the_weights_of_its_keys_twice() -> None:
    stored = 15_706_484_224 + 27 * 16 * 512 * 128  # the published count, and `k_b_proj_trans` of 27 layers
    assert weight_bytes(options(), PLAIN, LATENT) == 2 * stored
    assert LLAMA.twice_stored_weights == 0


def test_the_embedding_and_the_head_are_shared_by_the_gpus() -> None:
    whole, half = (weight_bytes(options(tensor_parallel=gpus), PLAIN, LLAMA) for gpus in (1, 2))
    assert whole - half == pytest.approx((whole - 2 * LLAMA.plain_weights) / 2)


def test_four_bits_are_counted_with_their_scales() -> None:
    bytes_per_weight = weight_bytes(options(), AWQ, LLAMA) - weight_bytes(options(), PLAIN, LLAMA)
    linears = sum(linear.inputs * linear.outputs * linear.count for linear in LLAMA.linears())
    inputs = sum(linear.inputs * linear.count for linear in LLAMA.linears())
    assert bytes_per_weight == pytest.approx(linears * (0.5 + 2 / 128 - 2) + 2 * inputs, abs=1)


@pytest.mark.parametrize(
    ("of", "fields", "expected"),
    [
        (LLAMA, {}, 131_072),  # 32 layers × 8 heads × 128 × 2 × 2 bytes
        (LLAMA, {"kv_cache": {"dtype": "fp8"}}, 65_536),
        (LLAMA, {"tensor_parallel": 2}, 65_536),
        (SMALL, {"tensor_parallel": 4}, 6_144),  # 2 KV heads, each on two of the GPUs
        (LATENT, {}, 31_104),
        (LATENT, {"tensor_parallel": 2}, 31_104),  # the latent is on every GPU
    ],
)
def test_a_token_takes_this_much_of_the_cache(of: ModelShape, fields: dict[str, Any], expected: int) -> None:
    assert footprint(options(**fields), AWQ, of).kv_per_token == expected


@pytest.mark.parametrize(("mode", "of_draft"), [("engine", 12_288), ("llmapi", 6_144)])
def test_a_draft_engine_keeps_its_cache_in_sixteen_bits(mode: str, of_draft: int) -> None:
    """It is converted and not calibrated, so it has no scales for another."""
    plan = plan_memory(options(mode=mode, kv_cache={"dtype": "fp8"}), AWQ, LLAMA, SMALL)
    assert plan.draft is not None
    assert (plan.target.kv_per_token, plan.draft.kv_per_token) == (65_536, of_draft)


def test_gptq_has_a_zero_point_beside_each_scale() -> None:
    saved = weight_bytes(options(), PLAIN, LLAMA) - weight_bytes(options(), GPTQ, LLAMA)
    linears = sum(linear.inputs * linear.outputs * linear.count for linear in LLAMA.linears())
    assert saved == linears * (2 - 0.5 - 4 / 128)


def test_every_draft_token_has_logits() -> None:
    small: dict[str, Any] = {"max_batch_size": 512, "max_num_tokens": 512}
    plain = activation_bytes(options(**small), PLAIN, SMALL)
    speculative = {"method": "draft_target", "draft_model": "/d", "max_draft_len": 4}
    assert activation_bytes(options(**small, speculative=speculative), PLAIN, SMALL) - plain == 2 * 512 * 4 * 151_936


def test_gpus_that_talk_have_buffers_for_it() -> None:
    alone, two = (plan_memory(options(tensor_parallel=gpus), AWQ, LLAMA).fixed for gpus in (1, 2))
    assert two - alone == 342 * MIB


def test_what_has_to_be_free_is_what_the_caches_share_of_it_needs() -> None:
    cache = {"full_sequences": 4, "free_gpu_memory_fraction": 0.5}
    plan = plan_memory(options(max_seq_len=9217, kv_cache=cache), AWQ, LLAMA)
    assert plan.needed_kv_bytes == 4 * 9248 * 131_072 / 0.5  # 9,217 tokens are 289 blocks of 32


def test_the_cache_holds_whole_blocks() -> None:
    plan = plan_memory(options(max_seq_len=9216), AWQ, LLAMA)
    assert plan.kv_tokens % 32 == 0
    assert 0 <= plan.kv_bytes - plan.kv_tokens * plan.target.kv_per_token < 32 * plan.target.kv_per_token
    assert plan.full_sequences == plan.kv_tokens // 9216


def test_what_is_not_left_free_is_what_is_taken() -> None:
    plan = plan_memory(options(kv_cache={"free_gpu_memory_fraction": 1.0}), AWQ, LLAMA, SMALL)
    assert sum(size for _, size in plan.rows()) == pytest.approx(plan.card.memory_bytes, abs=1)


def test_a_draft_takes_weights_and_shares_the_cache() -> None:
    alone, both = plan_memory(options(), AWQ, LLAMA), plan_memory(options(), AWQ, LLAMA, SMALL)
    assert both.draft is not None
    assert both.draft.weights > 2 * 494_032_768
    assert both.kv_tokens * (131_072 + 12_288) <= both.kv_bytes < alone.kv_bytes


def test_what_fits_is_planned() -> None:
    assert require_fit(options(kv_cache={"full_sequences": 16}), AWQ, LLAMA).full_sequences >= 16


def test_what_does_not_fit_is_refused_with_numbers_and_ways_out() -> None:
    section = options(gpu="a10g", max_batch_size=256, kv_cache={"full_sequences": 8})
    with pytest.raises(DoesNotFit) as refused:
        require_fit(section, PLAIN, LLAMA)
    assert "a10g has 22.5 GiB: weights 15.0 GiB" in refused.value.message
    assert "131,072 bytes a token" in refused.value.message
    assert "8 have to fit" in refused.value.message
    assert "tensor_parallel: 2" in refused.value.remedy
    assert "quantization.method: awq" in refused.value.remedy
    assert "fp8" not in refused.value.remedy  # an A10G has no FP8, and an engine of 16-bit weights no FP8 cache


@pytest.mark.parametrize(
    ("told", "way_out"),
    [
        ("max_batch_size: 256", {"max_batch_size": 256}),
        ("tensor_parallel: 2", {"tensor_parallel": 2}),
        ("max_num_tokens: 2048", {"max_num_tokens": 2048}),
        ("kv_cache.dtype: fp8", {"kv_cache": {"dtype": "fp8", "full_sequences": 5}}),
    ],
)
def test_each_way_out_works(told: str, way_out: dict[str, Any]) -> None:
    section = {
        "gpu": {"memory_mib": 16376, "compute_capability": "8.9"},
        "max_batch_size": 512,
        "max_num_tokens": 32768,
        "kv_cache": {"full_sequences": 5},
    }
    with pytest.raises(DoesNotFit) as refused:
        require_fit(TensorRtLlmOptions.model_validate(section), AWQ, LLAMA)
    assert told in refused.value.remedy
    require_fit(TensorRtLlmOptions.model_validate({**section, **way_out}), AWQ, LLAMA)


def test_a_model_that_nothing_helps_is_told_so() -> None:
    card = {"memory_mib": 4096, "compute_capability": "8.9"}
    huge = LLAMA.model_copy(update={"num_hidden_layers": 4000})
    with pytest.raises(DoesNotFit) as refused:
        require_fit(options(gpu=card), AWQ, huge)
    assert refused.value.remedy == "choose a larger GPU or a smaller model"
    assert "holds 0 sequences" in refused.value.message
