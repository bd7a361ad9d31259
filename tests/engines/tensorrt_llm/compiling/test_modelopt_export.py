"""What ModelOpt writes on this CPU, unpacked bit by bit and held against the weights it came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slipstream import EnvironmentFault
from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling.modelopt_export import builder_fields, quantize_and_export, storage_dtype
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.shapes import read_shape
from tests.tiny_llama import write_tiny_checkpoint

AWQ = QuantizationSpec(method="awq", group_size=128, symmetric=True)
FP8 = QuantizationSpec(method="fp8")
CALIBRATION = [[(7 * position + 31 * number) % 259 for position in range(64)] for number in range(4)]

# TensorRT-LLM's gated feed-forward: `fc` is activated, `gate` is the other half.
SOURCES = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.dense": ("self_attn.o_proj",),
    "mlp.fc": ("mlp.gate_proj",),
    "mlp.gate": ("mlp.up_proj",),
    "mlp.proj": ("mlp.down_proj",),
}
Tensors = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model", hidden=256, intermediate=512)


def export(checkpoint: Path, out: Path, spec: QuantizationSpec, **fields: Any) -> tuple[dict[str, Any], list[Tensors]]:
    options = TensorRtLlmOptions.model_validate({"gpu": "l40s", **fields})
    heard: list[float] = []
    out.mkdir(parents=True, exist_ok=True)
    quantize_and_export(
        checkpoint, spec, options, read_shape(checkpoint), CALIBRATION, out, lambda share, _: heard.append(share)
    )
    assert heard == sorted(heard)
    assert heard[-1] <= 1
    config: dict[str, Any] = json.loads((out / "config.json").read_bytes())
    return config, [load_file(path) for path in sorted(out.glob("*.safetensors"))]


def source(checkpoint: Path, layer: int, names: tuple[str, ...]) -> torch.Tensor:
    weights = load_file(checkpoint / "model.safetensors")
    return torch.cat([weights[f"model.layers.{layer}.{name}.weight"] for name in names])


def nibbles(packed: torch.Tensor) -> torch.Tensor:
    """Two signed 4-bit rows out of each row of bytes, the low half first: [outputs / 2, inputs] → [outputs, inputs]."""
    unsigned = packed.view(torch.uint8).to(torch.int16)
    pairs = torch.stack([unsigned & 15, unsigned >> 4], dim=1).flatten(0, 1)
    return torch.where(pairs > 7, pairs - 16, pairs)


def steps_off(packed: torch.Tensor, scales: torch.Tensor, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """How many quantization steps each unpacked weight is off: scales [outputs, groups], inputs [inputs]."""
    step = scales.repeat_interleave(weights.shape[1] // scales.shape[1], dim=1) * inputs.float()
    return (nibbles(packed) * step - weights).abs() / step


@pytest.fixture(scope="module")
def awq(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Tensors]:
    config, (tensors,) = export(checkpoint, tmp_path_factory.mktemp("awq"), AWQ)
    return config, tensors


def test_awq_config_is_a_tensorrt_llm_checkpoints(awq: tuple[dict[str, Any], Tensors]) -> None:
    config, _ = awq
    assert config["architecture"] == "LlamaForCausalLM"
    assert config["dtype"] == "float16"  # the source is float32
    assert config["quantization"] == {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": None,
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "exclude_modules": ["lm_head"],
    }
    assert config["mapping"] == {"world_size": 1, "tp_size": 1, "pp_size": 1}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", SOURCES)
def test_awq_weights_unpack_to_within_half_a_step_of_their_source(
    awq: tuple[dict[str, Any], Tensors], checkpoint: Path, name: str, layer: int
) -> None:
    place = f"transformer.layers.{layer}.{name}"
    _, tensors = awq
    weights = source(checkpoint, layer, SOURCES[name])
    packed, scales = tensors[f"{place}.weight"], tensors[f"{place}.weights_scaling_factor"]
    assert packed.dtype == torch.int8
    assert packed.shape == (weights.shape[0] // 2, weights.shape[1])
    assert scales.shape == (weights.shape[0], weights.shape[1] // 128)
    off = steps_off(packed, scales, tensors[f"{place}.prequant_scaling_factor"], weights)
    assert off.max() < 0.52  # half a step, and what 16 bits lost
    assert off.mean() < 0.3


def test_what_is_not_quantized_stays_as_it_was(awq: tuple[dict[str, Any], Tensors], checkpoint: Path) -> None:
    _, tensors = awq
    embedding = load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"].half()
    assert torch.equal(tensors["transformer.vocab_embedding.weight"], embedding)
    assert torch.equal(tensors["lm_head.weight"], embedding)  # tied in the source, two tensors here
    assert torch.equal(tensors["transformer.ln_f.weight"], torch.ones(256, dtype=torch.float16))
    assert len(tensors) == 3 + 2 * (2 + 5 * 3)


def test_two_gpus_get_half_of_each_matrix(checkpoint: Path, tmp_path: Path) -> None:
    groups_of_64 = QuantizationSpec(method="awq", group_size=64, symmetric=True)
    config, ranks = export(checkpoint, tmp_path, groups_of_64, tensor_parallel=2)
    assert config["mapping"]["world_size"] == 2
    assert config["quantization"]["group_size"] == 64
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == ["rank0.safetensors", "rank1.safetensors"]
    place = "transformer.layers.1.mlp"
    gate, down = (source(checkpoint, 1, (f"mlp.{name}_proj",)) for name in ("gate", "down"))
    for number, tensors in enumerate(ranks):
        halves = {
            "fc": gate.chunk(2, dim=0)[number],  # column parallel: half of the outputs
            "proj": down.chunk(2, dim=1)[number],  # row parallel: half of the inputs
        }
        for name, weights in halves.items():
            scales = tensors[f"{place}.{name}.weights_scaling_factor"]
            inputs = tensors[f"{place}.{name}.prequant_scaling_factor"]
            assert scales.shape == (weights.shape[0], weights.shape[1] // 64)
            off = steps_off(tensors[f"{place}.{name}.weight"], scales, inputs, weights)
            assert off.max() < 0.52, (number, name)


@pytest.fixture(scope="module")
def fp8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Tensors]:
    config, (tensors,) = export(
        checkpoint, tmp_path_factory.mktemp("fp8"), FP8, dtype="bfloat16", kv_cache={"dtype": "fp8"}
    )
    return config, tensors


def test_fp8_says_so_of_weights_and_cache(fp8: tuple[dict[str, Any], Tensors]) -> None:
    config, tensors = fp8
    assert config["dtype"] == "bfloat16"
    assert config["quantization"]["quant_algo"] == "FP8"
    assert config["quantization"]["kv_cache_quant_algo"] == "FP8"
    assert tensors["transformer.layers.0.attention.kv_cache_scaling_factor"].shape == (1,)


@pytest.mark.parametrize("name", SOURCES)
def test_fp8_weights_are_within_half_of_their_last_bit(
    fp8: tuple[dict[str, Any], Tensors], checkpoint: Path, name: str
) -> None:
    """E4M3 keeps three bits after the leading one: half of the last is 1/16 of the value (arXiv:2209.05433)."""
    place, weights = f"transformer.layers.0.{name}", source(checkpoint, 0, SOURCES[name]).bfloat16().float()
    tensors = fp8[1]
    stored, scale = tensors[f"{place}.weight"], tensors[f"{place}.weights_scaling_factor"]
    assert stored.dtype == torch.float8_e4m3fn
    assert scale.shape == tensors[f"{place}.activation_scaling_factor"].shape == (1,)
    sharing = SOURCES["mlp.fc"] + SOURCES["mlp.gate"] if name in {"mlp.fc", "mlp.gate"} else SOURCES[name]
    largest = source(checkpoint, 0, sharing).abs().max().item()  # both halves of the gate are one matrix in the kernel
    assert scale.item() == pytest.approx(largest / 448, rel=0.01)
    subnormal = 2**-10 * scale
    assert ((stored.float() * scale - weights).abs() <= weights.abs() * (1 / 16 + 0.001) + subnormal).all()


def test_mode_llmapi_writes_a_hugging_face_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    config, (tensors,) = export(checkpoint, tmp_path, AWQ, mode="llmapi", kv_cache={"dtype": "fp8"})
    quantization = json.loads((tmp_path / "hf_quant_config.json").read_bytes())["quantization"]
    assert (quantization["quant_algo"], quantization["kv_cache_quant_algo"]) == ("W4A16_AWQ", "FP8")
    assert config["dtype"] == "float16"
    place = "model.layers.1.mlp"
    weights = source(checkpoint, 1, ("mlp.down_proj",))
    packed, scales = tensors[f"{place}.down_proj.weight"], tensors[f"{place}.down_proj.weight_scale"]
    assert packed.dtype == torch.uint8
    assert steps_off(packed, scales, tensors[f"{place}.down_proj.pre_quant_scale"], weights).max() < 0.52
    # Where a norm stands before a matrix, the scales of its inputs went into the norm, which was all ones.
    norm = tensors["model.layers.1.post_attention_layernorm.weight"]
    packed, scales = tensors[f"{place}.gate_proj.weight"], tensors[f"{place}.gate_proj.weight_scale"]
    assert f"{place}.gate_proj.pre_quant_scale" not in tensors
    assert steps_off(packed, scales, norm, source(checkpoint, 1, ("mlp.gate_proj",))).max() < 0.52


def test_fp8_for_mode_llmapi_is_exported_without_a_word(checkpoint: Path, tmp_path: Path) -> None:
    _, (tensors,) = export(checkpoint, tmp_path, FP8, mode="llmapi")
    quantization = json.loads((tmp_path / "hf_quant_config.json").read_bytes())["quantization"]
    assert (quantization["quant_algo"], quantization["kv_cache_quant_algo"]) == ("FP8", None)
    place, weights = "model.layers.1.mlp.down_proj", source(checkpoint, 1, ("mlp.down_proj",)).half().float()
    stored, scale = tensors[f"{place}.weight"], tensors[f"{place}.weight_scale"]
    assert stored.dtype == torch.float8_e4m3fn
    assert tensors[f"{place}.input_scale"].numel() == 1
    assert ((stored.float() * scale - weights).abs() <= weights.abs() * (1 / 16 + 0.001) + 2**-10 * scale).all()


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=320,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


def test_a_qwen_is_exported_for_the_llm_class(qwen: Path, tmp_path: Path) -> None:
    config, (tensors,) = export(qwen, tmp_path / "out", AWQ, mode="llmapi")
    assert config["dtype"] == "bfloat16"
    assert tensors["model.layers.0.self_attn.q_proj.weight"].dtype == torch.uint8
    bias = load_file(qwen / "model.safetensors")["model.layers.0.self_attn.q_proj.bias"]
    assert torch.equal(tensors["model.layers.0.self_attn.q_proj.bias"], bias)


def test_a_qwen_for_an_engine_needs_the_container(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="qwen2 only beside TensorRT-LLM") as refused:
        export(qwen, tmp_path / "out", AWQ)
    assert "--emit-script" in refused.value.remedy
    assert list((tmp_path / "out").iterdir()) == []


def test_a_qwen_gets_the_fields_that_only_its_builder_reads(qwen: Path) -> None:
    from transformers import AutoConfig

    assert builder_fields(AutoConfig.from_pretrained(qwen), "qwen", {}) == {
        "architecture": "Qwen2ForCausalLM",
        "model_type": "qwen",
        "qwen_type": "qwen2",
        "norm_epsilon": 1e-5,
        "rotary_base": 1_000_000.0,
        "intermediate_size": 512,
    }


def test_long_context_scaling_reaches_the_builder(checkpoint: Path, tmp_path: Path) -> None:
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
        "rope_type": "llama3",
    }
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_scaling": scaling}))
    exported, _ = export(tmp_path, tmp_path / "out", FP8)
    assert exported["rotary_scaling"] == scaling


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [("float32", "auto", "float16"), ("bfloat16", "auto", "bfloat16"), ("bfloat16", "float16", "float16")],
)
def test_sixteen_bits_are_the_checkpoints_own_unless_told(
    tmp_path: Path, stored: str, wanted: str, expected: str
) -> None:
    options = TensorRtLlmOptions.model_validate({"gpu": "l40s", "dtype": wanted})
    for name in ("dtype", "torch_dtype"):
        (tmp_path / "config.json").write_text(json.dumps({name: stored}))
        assert storage_dtype(options, tmp_path) == expected
