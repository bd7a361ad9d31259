"""Engines small enough to count by hand, written as the build writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VOCABULARY, HIDDEN, WIDTH = 320, 64, 32
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# 320 x 64 codes of 8 bits, 320 zero points of 8 bits and 320 scales of 16; 32 x 64 codes of 4 bits, 64 zero points of 4
# bits and 64 scales of 16.
HEAD_BYTES = 20480 + 320 + 640
LAYER_BYTES = 1024 + 32 + 128
ROW_BYTES = 64 + 1 + 2
HEAD, LAYER = 20480, 2048
"""How many weights they have."""


def write_ir(folder: Path, *, tied: bool = True) -> Path:
    """By OpenVINO itself: an embedding, a 4-bit product in groups of 32, a rotary one, and a head of 8 bits.

    Args:
        tied: the head is the embedding.
    """
    import numpy as np
    from openvino import Model, opset13, save_model

    ids = opset13.parameter([-1], np.int64, name="ids")
    table = _stored([VOCABULARY, HIDDEN], [VOCABULARY, 1], "u8")
    embedded = opset13.gather(table, ids, opset13.constant(np.int64(0)))
    groups = _stored([WIDTH, HIDDEN // 32, 32], [WIDTH, HIDDEN // 32, 1], "u4")
    matrix = opset13.reshape(groups, opset13.constant(np.array([WIDTH, HIDDEN])), False)
    narrow = opset13.matmul(embedded, matrix, False, True)
    wide = opset13.concat([narrow, narrow], 1)
    head = table if tied else _stored([VOCABULARY, HIDDEN], [VOCABULARY, 1], "u8")
    logits = opset13.matmul(wide, head, False, True)
    places = opset13.reshape(opset13.convert(ids, "f32"), opset13.constant(np.array([1, 1, -1])), False)
    rotary = opset13.matmul(opset13.constant(np.ones((1, HIDDEN, 1), np.float32)), places, False, False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "openvino_model.xml"
    save_model(Model([opset13.result(logits), opset13.result(rotary)], [ids]), path, compress_to_fp16=False)
    return path


def _stored(shape: Sequence[int], groups: Sequence[int], bits: str) -> Any:
    """Codes of ``bits``, with a zero point of as many and a 16-bit scale for each of ``groups``, decompressed."""
    import numpy as np
    from openvino import Shape, Tensor, Type, op, opset13

    def codes(of: Sequence[int]) -> Any:
        tensor = Tensor(Type.u4 if bits == "u4" else Type.u8, Shape(list(of)))
        tensor.data.reshape(-1).view(np.uint8)[:] = 0x11
        return opset13.convert(op.Constant(tensor), "f16")

    scale = opset13.constant(np.full(list(groups), 0.5, np.float16))
    return opset13.convert(opset13.multiply(opset13.subtract(codes(shape), codes(groups)), scale), "f32")


def write_bundle(folder: Path, **fields: Any) -> Path:
    """A bundle of that engine as far as its limit reads it; ``fields`` replace the manifest's."""
    manifest = {
        "id": folder.name,
        "engine": {"target": "openvino"},
        "serving": {"max_concurrency": 8, "batch_invariant": False},
        "quantization": {"method": "gptq", "group_size": 32},
        "draft": None,
        **fields,
    }
    write_ir(folder / "engine")
    (folder / "engine" / "config.json").write_text(json.dumps(CONFIG))
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder
