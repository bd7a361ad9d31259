"""Fusing projections changes how many products a model has, and nothing that it says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from openvino import Core, Model, Shape, Tensor, Type, op
from openvino import opset13 as opset

from slipstream.engines.openvino.fusion import fuse_projections

WIDTH, GROUP = 64, 32
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
RANDOM = np.random.default_rng(7)


def constant(kind: Type, shape: Sequence[int]) -> Any:
    tensor = Tensor(kind, Shape(list(shape)))
    content = tensor.data.reshape(-1).view(np.uint8)
    content[:] = RANDOM.integers(0, 256, content.size, dtype=np.uint8)
    return op.Constant(tensor)


def scales(*shape: int) -> Any:
    return opset.constant((RANDOM.random(shape) * 0.01).astype(np.float16))


def four_bits(rows: int, group: int = GROUP) -> Any:
    """Asymmetric, in groups, as NNCF writes it."""
    groups = WIDTH // group
    codes = opset.convert(constant(Type.u4, (rows, groups, group)), "f16")
    zeros = opset.convert(constant(Type.u4, (rows, groups, 1)), "f16")
    scaled = opset.multiply(opset.subtract(codes, zeros), scales(rows, groups, 1))
    return opset.convert(opset.reshape(scaled, np.array([rows, WIDTH]), False), "f32")


def eight_bits(rows: int) -> Any:
    codes = opset.convert(constant(Type.u8, (rows, WIDTH)), "f16")
    zeros = opset.convert(constant(Type.u8, (rows, 1)), "f16")
    return opset.convert(opset.multiply(opset.subtract(codes, zeros), scales(rows, 1)), "f32")


def sixteen_bits(rows: int) -> Any:
    return opset.convert(scales(rows, WIDTH), "f32")


def model_of(*weights: Any) -> Model:
    """Each of ``weights`` times one input."""
    given = opset.parameter([-1, WIDTH], np.float32)
    return Model([opset.result(opset.matmul(given, weight, False, True)) for weight in weights], [given], "model")


def products(model: Model) -> int:
    return sum(node.get_type_name() == "MatMul" for node in model.get_ops())


def outputs(model: Model, rows: int) -> list[Any]:
    given = np.random.default_rng(1).random((rows, WIDTH)).astype(np.float32)
    return list(Core().compile_model(model, "CPU", EXACT)([given]).values())


@pytest.mark.parametrize("weights", [four_bits, eight_bits, sixteen_bits])
def test_products_of_one_input_become_one_and_say_the_same(weights: Any) -> None:
    model = model_of(weights(48), weights(16), weights(16))
    before = outputs(model.clone(), 5)
    assert fuse_projections(model) == 2
    assert products(model) == 1
    for one, other in zip(before, outputs(model, 5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mix_of_precisions_is_fused_as_far_as_it_goes() -> None:
    model = model_of(four_bits(32), eight_bits(16), four_bits(16))
    before = outputs(model.clone(), 1)
    assert fuse_projections(model) == 1
    assert products(model) == 2
    for one, other in zip(before, outputs(model, 1), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "weights",
    [(four_bits(32),), (four_bits(32), four_bits(32, group=16)), (four_bits(32), eight_bits(32))],
    ids=["one product", "other groups", "other precision"],
)
def test_what_is_stored_otherwise_is_left_alone(weights: tuple[Any, ...]) -> None:
    model = model_of(*weights)
    assert fuse_projections(model) == 0
    assert products(model) == len(weights)


def test_rows_that_share_a_byte_are_left_alone() -> None:
    odd = [opset.convert(constant(Type.u4, (3, WIDTH // 64)), "f32") for _ in range(2)]
    given = opset.parameter([-1, 1], np.float32)
    model = Model([opset.result(opset.matmul(given, weight, False, True)) for weight in odd], [given], "model")
    assert fuse_projections(model) == 0


def test_products_of_activations_are_left_alone() -> None:
    given = opset.parameter([4, WIDTH], np.float32)
    scores = [opset.result(opset.matmul(given, opset.relu(given), False, True)) for _ in range(2)]
    assert fuse_projections(Model(scores, [given], "model")) == 0


def test_products_of_different_inputs_are_left_alone() -> None:
    first, second = opset.parameter([-1, WIDTH], np.float32), opset.parameter([-1, WIDTH], np.float32)
    results = [opset.result(opset.matmul(given, eight_bits(16), False, True)) for given in (first, second)]
    assert fuse_projections(Model(results, [first, second], "model")) == 0
