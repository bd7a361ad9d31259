"""Projections of one input as one product: what a layer multiplies by three matrices, it multiplies by their stack.

Decoding one token, a product of a few hundred rows costs about as much to begin as to compute: the activations are
quantized for it and every thread waits for the others after it. Query, key and value read the same input, and so do the
gate and the up projection. Each row of weights keeps its codes, scales and zero points, so every output is what it was.

Measured on SmolLM2-135M (30 layers, 4 bits in groups of 32): 211 products become 121, and a step that decodes one token
takes 10% less processor time; of 8 sequences, 7%. A prefill of 128 tokens takes what it took.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

_DECOMPRESSION = ("Convert", "Subtract", "Multiply", "Reshape")


def fuse_projections(model: Any) -> int:
    """Stack, in place, the weights of products with one input that are stored alike; how many products went.

    A product is left alone where it is the only one of its storage (precision, group size), so a mix of 4-bit and 8-bit
    weights is fused as far as it goes.
    """
    products: dict[Any, list[Any]] = defaultdict(list)
    for node in model.get_ordered_ops():
        storage = _storage(node)
        if storage is not None:
            source = node.input_value(0)
            products[source.get_node().get_friendly_name(), source.get_index(), storage].append(node)
    alike = [group for group in products.values() if len(group) > 1]
    for group in alike:
        _fuse(group)
    model.validate_nodes_and_infer_types()
    return sum(len(group) - 1 for group in alike)


def _storage(node: Any) -> tuple[Any, ...] | None:
    """How the weights of a product ``activations x weights^T`` are stored; None for anything else.

    From the product down to the constants: each step's kind, the type it gives and its shape but for the rows.
    """
    if node.get_type_name() != "MatMul" or not node.get_transpose_b() or node.get_transpose_a():
        return None
    steps = []
    todo = [node.input_value(1).get_node()]
    while todo:
        step = todo.pop()
        kind = step.get_type_name()
        if kind == "Constant":
            if not _has_rows(step):
                return None
        elif kind not in _DECOMPRESSION:
            return None
        shape = tuple(step.get_output_shape(0))
        steps.append((kind, step.get_output_element_type(0).get_type_name(), shape[1:]))
        inputs = [value.get_node() for value in step.input_values()]
        todo += inputs[:1] if kind == "Reshape" else inputs
    return tuple(steps)


def _has_rows(constant: Any) -> bool:
    """Whether the rows of ``constant`` begin at whole bytes, so that one may follow another's."""
    shape = tuple(constant.get_output_shape(0))
    bits = constant.get_output_element_type(0).get_bitwidth()
    return len(shape) >= 2 and int(np.prod(shape)) * bits % 8 == 0


def _fuse(products: Sequence[Any]) -> None:
    from openvino import opset13

    rows = [int(product.input_value(1).get_shape()[0]) for product in products]
    weights = _stack([product.input_value(1).get_node() for product in products])
    name = "+".join(product.get_friendly_name() for product in products)
    stacked = opset13.matmul(products[0].input_value(0), weights, False, True, name=name)
    last = opset13.constant(np.int64(-1), name=f"{name}/axis")
    split = opset13.variadic_split(stacked, last, opset13.constant(np.array(rows, np.int64), name=f"{name}/rows"))
    split.set_friendly_name(f"{name}/split")
    for product, output in zip(products, split.outputs(), strict=True):
        product.output(0).replace(output)


def _stack(nodes: Sequence[Any]) -> Any:
    """``nodes``, which are alike, computed on all of their rows at once."""
    from openvino import opset13

    first = nodes[0]
    kind, name = first.get_type_name(), "+".join(node.get_friendly_name() for node in nodes)
    if kind == "Constant":
        return _stack_constants(nodes, name)
    below = [[node.input_value(at).get_node() for node in nodes] for at in range(first.get_input_size())]
    if kind == "Convert":
        return opset13.convert(_stack(below[0]), first.get_output_element_type(0).get_type_name(), name=name)
    if kind == "Reshape":
        shape = np.array([sum(node.get_output_shape(0)[0] for node in nodes), *first.get_output_shape(0)[1:]], np.int64)
        return opset13.reshape(_stack(below[0]), opset13.constant(shape, name=f"{name}/shape"), False, name=name)
    operation = {"Subtract": opset13.subtract, "Multiply": opset13.multiply}[kind]
    return operation(_stack(below[0]), _stack(below[1]), name=name)


def _stack_constants(nodes: Sequence[Any], name: str) -> Any:
    from openvino import Shape, Tensor, op

    shapes = [list(node.get_output_shape(0)) for node in nodes]
    tensor = Tensor(nodes[0].get_output_element_type(0), Shape([sum(shape[0] for shape in shapes), *shapes[0][1:]]))
    stored = [node.data.reshape(-1).view(np.uint8) for node in nodes]  # sub-byte types come packed
    tensor.data.reshape(-1).view(np.uint8)[:] = np.concatenate(stored)
    constant = op.Constant(tensor)
    constant.set_friendly_name(name)
    return constant
