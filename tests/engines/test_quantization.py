"""A quantization that does not fit the checkpoint is refused before any work; one that fits is 4-bit where it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from slipstream.engines.grouping import GroupSizeMismatch
from slipstream.engines.openvino.quantization import (
    UnsupportedSpec,
    check_spec,
    evenly_spread,
    four_bit_share,
    quantized_widths,
    require_calibration,
)
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import QuantizationSpec
from tests.tiny_llama import write_tiny_checkpoint

CALIBRATION = [[3 + (number * 7 + position) % 256 for position in range(24)] for number in range(6)]


def never(share: float, what: str) -> None:
    raise AssertionError(f"work began: {what} at {share}")


class TestRefusals:
    @pytest.mark.parametrize("method", ["awq", "gptq"])
    def test_a_group_size_that_does_not_divide_names_the_divisors_and_nothing_is_written(
        self, checkpoint: Path, tmp_path: Path, method: Any
    ) -> None:
        with pytest.raises(GroupSizeMismatch) as refused:
            OpenVinoTarget().quantize(
                checkpoint, QuantizationSpec(method=method, group_size=128), CALIBRATION, tmp_path, never
            )
        assert "group size 128 does not divide every input width" in refused.value.message
        assert "(64, 128)" in refused.value.message
        assert refused.value.remedy == "set group_size to one of: 64, 32, 16"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("group_size", [0, -1, 7, 100])
    def test_a_group_size_that_is_none_is_refused_too(self, checkpoint: Path, group_size: int) -> None:
        with pytest.raises(GroupSizeMismatch):
            check_spec(QuantizationSpec(group_size=group_size), quantized_widths(checkpoint))

    def test_a_width_that_no_size_divides_says_to_leave_it_unquantized(self, tmp_path: Path) -> None:
        odd = write_tiny_checkpoint(tmp_path, intermediate=100)
        with pytest.raises(GroupSizeMismatch) as refused:
            check_spec(QuantizationSpec(), quantized_widths(odd))
        assert "none fits; use method: none" in refused.value.remedy
        check_spec(QuantizationSpec(method="none"), quantized_widths(odd))

    def test_bits_other_than_four_are_refused(self, checkpoint: Path) -> None:
        with pytest.raises(UnsupportedSpec, match="4 bits here, not 8"):
            check_spec(QuantizationSpec(bits=8), quantized_widths(checkpoint))

    @pytest.mark.parametrize("nothing", [[], [[]], [[], []]])
    def test_calibration_on_nothing_is_refused(self, checkpoint: Path, nothing: list[list[int]]) -> None:
        with pytest.raises(UnsupportedSpec, match="there is none"):
            require_calibration(QuantizationSpec(), nothing)


def test_the_widths_are_those_of_the_blocks_and_not_of_the_embedding(tmp_path: Path) -> None:
    shapes = {
        "model.embed_tokens.weight": (10, 50),
        "lm_head.weight": (10, 50),
        "model.layers.0.mlp.up_proj.weight": (6, 64),
        "model.layers.0.mlp.down_proj.weight": (8, 96),
        "model.norm.weight": (7,),
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    assert quantized_widths(tmp_path) == [64, 96]


@pytest.mark.parametrize(
    ("method", "symmetric", "kind"), [("awq", False, "u4"), ("awq", True, "i4"), ("gptq", False, "u4")]
)
def test_the_blocks_are_stored_in_four_bits_and_the_share_says_how_much(
    checkpoint: Path, tmp_path: Path, method: Any, symmetric: bool, kind: str
) -> None:
    import openvino

    spec = QuantizationSpec(method=method, group_size=32, symmetric=symmetric)
    said: list[float] = []
    facts = OpenVinoTarget().quantize(checkpoint, spec, CALIBRATION, tmp_path, lambda share, _: said.append(share))

    model = openvino.Core().read_model(tmp_path / "openvino_model.xml")
    kinds = {
        op.get_output_element_type(0).get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"
    }
    block_weights = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)  # attention (one of two heads for k, v) and MLP
    embedding = 320 * 64
    assert kind in kinds
    assert facts["four_bit_share"] == pytest.approx(block_weights / (block_weights + embedding), abs=0.005)
    assert four_bit_share(model) == pytest.approx(facts["four_bit_share"], abs=1e-4)
    assert facts["calibration_sequences"] == len(CALIBRATION)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("config.json", "generation_config.json", "openvino_model.bin", "openvino_model.xml"),
    ]
    assert said == sorted(said)
    assert (said[0], said[-1]) == (0.0, 1.0)


def test_calibration_takes_all_of_a_few_and_spreads_over_many() -> None:
    few = [[1], [2]]
    assert evenly_spread(few, 4) == few
    assert evenly_spread([[number] for number in range(100)], 4) == [[0], [25], [50], [75]]
