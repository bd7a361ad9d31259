"""A whole decoder rounded in order, and put into an exported model: real transformers, real OpenVINO."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from slipstream.engines.openvino.gptq.decoder import DecoderUnknown, _Layer, _Stream, require_known, round_decoder
from slipstream.engines.openvino.gptq.packing import MatrixMissing, pack
from slipstream.engines.openvino.quantization import IR_NAME, model_inputs
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import QuantizationSpec

SPEC = QuantizationSpec("gptq", 4, 32)
TEXT = [[(7 * place + 13 * row) % 300 for place in range(96)] for row in range(6)]
HELD_OUT = [(11 * place) % 300 for place in range(96)]


def silent(share: float, doing: str) -> None:
    pass


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    out = tmp_path_factory.mktemp("exported")
    OpenVinoTarget().quantize(checkpoint, QuantizationSpec(method="none"), [], out, silent)
    return out


def with_weights(checkpoint: Path, weights: dict[str, Any]) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for name, weight in weights.items():
        model.get_submodule(name).weight.data = weight
    return model.eval()


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0]
        return found


def test_every_linear_layer_of_the_blocks_is_rounded_and_no_other(checkpoint: Path) -> None:
    found = round_decoder(checkpoint, SPEC, TEXT, silent)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    linears = {
        name: module.weight.shape
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    }
    assert {name: one.weight.shape for name, one in found.items()} == linears


def test_the_packed_model_computes_what_the_rounded_weights_do(checkpoint: Path, exported: Path) -> None:
    import openvino

    found = round_decoder(checkpoint, SPEC, TEXT, silent)
    model = openvino.Core().read_model(exported / IR_NAME)
    pack(model, found)
    compiled = openvino.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    )
    ours = compiled.create_infer_request().infer(model_inputs(compiled, HELD_OUT))["logits"][0]
    theirs = logits(with_weights(checkpoint, {name: one.weight for name, one in found.items()}), HELD_OUT).numpy()
    exact = logits(with_weights(checkpoint, {}), HELD_OUT).numpy()
    assert np.abs(theirs - exact).max() > 20 * np.abs(ours - theirs).max()


def test_the_order_makes_up_for_errors_that_rounding_each_by_itself_leaves(checkpoint: Path) -> None:
    """Against NNCF's scheme in small: GPTQ of every matrix on the exact model's inputs."""
    from slipstream.engines.openvino.gptq.rounding import round_matrix

    in_order = {name: one.weight for name, one in round_decoder(checkpoint, SPEC, TEXT, silent).items()}
    model = with_weights(checkpoint, {})
    seen: dict[str, torch.Tensor] = {}
    for name in in_order:
        module = model.get_submodule(name)

        def add(module: Any, given: Any, name: str = name) -> None:
            rows = given[0].reshape(-1, given[0].shape[-1])
            seen[name] = seen.get(name, 0) + rows.T @ rows

        module.register_forward_pre_hook(add)
    for ids in TEXT:
        logits(model, ids)
    by_itself = {name: round_matrix(model.get_submodule(name).weight.data, seen[name], 32).weight for name in in_order}
    exact = torch.cat([logits(with_weights(checkpoint, {}), ids) for ids in TEXT])

    def distance(weights: dict[str, Any]) -> float:
        changed = with_weights(checkpoint, weights)
        return float((torch.cat([logits(changed, ids) for ids in TEXT]) - exact).pow(2).mean())

    assert distance(in_order) < 0.8 * distance(by_itself)


def test_a_decoder_of_another_build_is_refused_by_name() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=64))
    with pytest.raises(DecoderUnknown, match="gptq does not know the layers of GPT2") as caught:
        require_known(model.get_decoder())
    assert "awq" in (caught.value.remedy or "")


def test_an_export_with_other_names_is_refused(checkpoint: Path, exported: Path) -> None:
    import openvino

    one = next(iter(round_decoder(checkpoint, SPEC, TEXT[:1], silent).values()))
    with pytest.raises(MatrixMissing, match=r"no constant self.model.layers.9.mlp.up_proj.weight"):
        pack(openvino.Core().read_model(exported / IR_NAME), {"model.layers.9.mlp.up_proj": one})


def test_what_the_residual_stream_lacks_is_made_up_for_by_the_matrix_that_writes_into_it() -> None:
    generator = torch.Generator().manual_seed(6)
    block, inputs = torch.nn.Module(), torch.randn(400, 64, generator=generator)
    block.o_proj = torch.nn.Linear(64, 64, bias=False)
    lacking = inputs @ (0.04 * torch.randn(64, 64, generator=generator))
    with torch.inference_mode():
        wanted = block.o_proj(inputs) + lacking
        _Layer(block, _Stream(inputs, [], []), SPEC)._round(("o_proj",), inputs, inputs, lacking)
        left = wanted - block.o_proj(inputs)
    assert float(left.pow(2).mean()) < 0.1 * float(lacking.pow(2).mean())


def test_a_symmetric_recipe_has_its_zeros_in_the_middle(checkpoint: Path) -> None:
    found = round_decoder(checkpoint, QuantizationSpec("gptq", 4, 32, symmetric=True), TEXT[:1], silent)
    assert all(bool((one.zeros == 8).all()) for one in found.values())


def test_both_matrices_that_write_into_the_residual_stream_are_told_what_it_lacks_there(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float | None]] = []
    plain = _Layer._round

    def note(layer: _Layer, names: Any, exact: Any, rounded: Any, missing: Any = None) -> None:
        told.append((names[0], None if missing is None else float(missing.abs().max())))
        plain(layer, names, exact, rounded, missing)

    monkeypatch.setattr(_Layer, "_round", note)
    round_decoder(checkpoint, SPEC, TEXT[:2], silent)
    first, second = told[:4], told[4:8]
    assert [name for name, _ in first] == ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]
    lacks = dict(first)
    assert lacks["self_attn.q_proj"] is lacks["mlp.gate_proj"] is None
    assert lacks["self_attn.o_proj"] == 0  # both streams begin alike
    assert lacks["mlp.down_proj"]  # and o_proj was rounded by then
    assert all(missing for name, missing in second if name in ("self_attn.o_proj", "mlp.down_proj"))
