"""Matrix products to time: numpy's, and an OpenVINO engine's own kernels with 4-bit and 8-bit weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

# Positions x inputs x outputs: a step of a small model's prefill, whose weights stay in a core's cache, and a larger
# product, which gives every core enough to do.
SHAPES = ((128, 576, 1536), (512, 1536, 1536))
_GROUP = 32


@dataclass(frozen=True, slots=True)
class Product:
    """``run`` computes ``operations``, two per multiplied weight. ``lower`` is whatever has fewer than 32 bits."""

    arithmetic: Literal["f32", "lower"]
    operations: float
    run: Callable[[], object]


def blas_products() -> Iterator[Product]:
    """By numpy's BLAS on all of its threads; none where numpy is not installed."""
    try:
        import numpy as np
    except ImportError:
        return
    for rows, inputs, outputs in SHAPES:
        left, right = np.ones((rows, inputs), np.float32), np.ones((inputs, outputs), np.float32)
        into = np.empty((rows, outputs), np.float32)
        yield Product("f32", _operations(rows, inputs, outputs), _multiplication(left, right, into))


def engine_products() -> Iterator[Product]:
    """By the CPU plugin of OpenVINO as engines are served with it; none where it is not installed."""
    try:
        from openvino import Core
    except ImportError:
        return
    core = Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    for rows, inputs, outputs in SHAPES:
        for bits, properties in (("u4", {}), ("u8", {}), ("f32", {}), ("f32", exact)):
            model, given = _layer(rows, inputs, outputs, bits)
            compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **properties})
            request = compiled.create_infer_request()
            request.set_input_tensor(given)
            kind: Literal["f32", "lower"] = "f32" if properties else "lower"
            yield Product(kind, _operations(rows, inputs, outputs), request.infer)


def _operations(rows: int, inputs: int, outputs: int) -> float:
    return 2.0 * rows * inputs * outputs


def _multiplication(left: Any, right: Any, into: Any) -> Callable[[], object]:
    import numpy as np

    return lambda: np.matmul(left, right, out=into)


def _layer(rows: int, inputs: int, outputs: int, bits: str) -> tuple[Any, Any]:
    """A model of one product with weights [outputs, inputs], stored as an engine's are, and its input."""
    import numpy as np
    from openvino import Model, Tensor, opset13

    given = opset13.parameter([rows, inputs], np.float32)
    plain = np.ones((outputs, inputs), np.float32)
    weights = opset13.constant(plain) if bits == "f32" else _compressed(outputs, inputs, bits)
    result = opset13.result(opset13.matmul(given, weights, False, True))
    return Model([result], [given]), Tensor(np.ones((rows, inputs), np.float32))


def _compressed(outputs: int, inputs: int, bits: str) -> Any:
    """Codes of all ones, with a scale and a zero point per group of `_GROUP`."""
    import numpy as np
    from openvino import opset13

    groups = inputs // _GROUP
    codes = opset13.convert(_codes([outputs, groups, _GROUP], bits), "f16")
    zero = opset13.convert(_codes([outputs, groups, 1], bits), "f16")
    scale = opset13.constant(np.full((outputs, groups, 1), 0.01, np.float16))
    scaled = opset13.multiply(opset13.subtract(codes, zero), scale)
    shape = opset13.constant(np.array([outputs, inputs], np.int64))
    return opset13.convert(opset13.reshape(scaled, shape, False), "f32")


def _codes(shape: list[int], bits: str) -> Any:
    import numpy as np
    from openvino import Shape, Tensor, Type, op

    tensor = Tensor(Type.u4 if bits == "u4" else Type.u8, Shape(shape))
    tensor.data.reshape(-1).view(np.uint8)[:] = 0x11
    return op.Constant(tensor)


__all__ = ["SHAPES", "Product", "blas_products", "engine_products"]
