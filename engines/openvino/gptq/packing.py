"""Rounded matrices put into an exported IR: 4-bit constants in the place of full ones.

The subgraph is the one that the CPU plugin takes into its matrix multiplication: convert, subtract zero, multiply by
scale, reshape. A matrix of another form would be multiplied in full width.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.engines.openvino.gptq.rounding import Rounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MatrixMissing(InputError):
    """The exported model has no constant for a matrix of the checkpoint."""


def pack(model: Any, rounded: Mapping[str, Rounded]) -> None:
    """Replace in ``model`` the weight of each module that ``rounded`` names.

    Raises:
        MatrixMissing: naming it; the export gave its constants other names, or other shapes.
    """
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    for name, matrix in rounded.items():
        node = nodes.get(f"self.{name}.weight")
        shape = list(matrix.values.shape)
        if node is None or list(node.get_output_shape(0)) != shape:
            raise MatrixMissing(
                f"the exported model has no constant self.{name}.weight of shape {shape}",
                "set quantization.method: awq",
            )
        packed = _subgraph(matrix, node)
        for consumer in node.output(0).get_target_inputs():
            consumer.replace_source_output(packed.output(0))


def _subgraph(matrix: Rounded, replaced: Any) -> Any:
    """Nodes that compute ``matrix`` in the element type of ``replaced``, named after it."""
    import numpy as np
    import openvino
    from openvino import opset13

    name = replaced.get_friendly_name()
    rows, columns = matrix.values.shape
    groups = matrix.scales.shape[1]

    def four_bit(values: "NDArray[np.uint8]", shape: list[int], suffix: str) -> Any:
        tensor = openvino.Tensor(
            openvino.Type.u4, openvino.Shape(shape)
        )  # owns its bytes; one around an array does not
        tensor.data.reshape(-1).view(np.uint8)[:] = _nibbles(values)
        constant = openvino.op.Constant(tensor)
        constant.set_friendly_name(f"{name}{suffix}")
        return constant

    weights = opset13.convert(four_bit(matrix.values.numpy(), [rows, groups, columns // groups], ""), np.float16)
    zeros = opset13.convert(four_bit(matrix.zeros.numpy(), [rows, groups, 1], "/zero_point"), np.float16)
    scales = opset13.constant(matrix.scales.numpy().astype(np.float16)[:, :, None], name=f"{name}/scale")
    values = opset13.multiply(opset13.subtract(weights, zeros), scales)
    flat = opset13.reshape(values, np.array([rows, columns], dtype=np.int64), special_zero=False)
    element = replaced.get_output_element_type(0)
    return opset13.convert(flat, element.to_dtype()) if element != openvino.Type.f16 else flat


def _nibbles(values: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Two values to a byte, the first in the low half, as OpenVINO stores ``u4``; an odd last one stands alone."""
    import numpy as np

    flat: NDArray[np.uint8] = np.zeros(values.size + values.size % 2, dtype=np.uint8)
    flat[: values.size] = values.reshape(-1)
    packed: NDArray[np.uint8] = np.bitwise_or(flat[0::2], np.left_shift(flat[1::2], 4, dtype=np.uint8))
    return packed


__all__ = ["MatrixMissing", "pack"]
