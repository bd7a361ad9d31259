"""The work of an OpenVINO engine: its products from the IR, its cache from ``config.json`` and how it is served."""

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from slipstream.profiling.limit.ir import read_products
from slipstream.profiling.limit.work import LimitUnknown, Work

# As `engines.openvino.arithmetic` says, and a test holds both to each other: the cache is bf16 where the CPU multiplies
# that, and one of 8 bits keeps a scale and a zero point of 32 bits each, for keys by channel and block of 32 positions,
# for values by position.
_BF16_ISA = frozenset({"avx512_bf16", "amx_bf16"})
_ELEMENT_BYTES = {"u8": 1, "bf16": 2, "f32": 4}
_BLOCK_TOKENS = 32
_EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts")
_SCALE_BYTES = 8


def openvino_work(engine_dir: Path, serving: Mapping[str, Any], proposed_tokens: int, isa: Set[str]) -> Work:
    """What the engine in ``engine_dir`` reads and computes.

    Args:
        serving: the manifest's serving options.
        proposed_tokens: that one step verifies at most; 0 without speculation.
        isa: what the CPU that serves it can, in the kernel's words.

    Raises:
        LimitUnknown: the folder is no such engine, or one with experts.
    """
    try:
        config = json.loads((engine_dir / "config.json").read_text(encoding="utf-8"))
        _refuse_experts(engine_dir, config)
        layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        width = int(config.get("head_dim") or config["hidden_size"] // heads)
        vocabulary_size = int(config["vocab_size"])
        if min(layers, heads, kv_heads, width) < 1:
            raise ValueError("a model without layers, heads or channels")
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
        raise LimitUnknown(f"{engine_dir} is not an OpenVINO engine: {error!r}", "slipstream build RECIPE") from error
    products = read_products(engine_dir / "openvino_model.xml", vocabulary_size)
    is_exact = bool(serving.get("batch_invariant")) or proposed_tokens > 0
    precision = "f32" if is_exact else "bf16" if isa & _BF16_ISA else "u8"
    scales = _SCALE_BYTES * (width + _BLOCK_TOKENS) / _BLOCK_TOKENS if precision == "u8" else 0
    return Work(
        weight_bytes=products.weight_bytes,
        row_bytes=products.row_bytes,
        parameters=products.parameters,
        head_parameters=products.head_parameters,
        kv_bytes_per_token=layers * kv_heads * (2 * width * _ELEMENT_BYTES[precision] + scales),
        attention_width=layers * heads * width,
        tokens_per_step=1 + proposed_tokens,
        arithmetic="f32" if is_exact else "fast",
        precision=precision,
    )


def _refuse_experts(engine_dir: Path, config: Mapping[str, Any]) -> None:
    """The IR holds every expert, and a token reads a few: what counts them all is no lower bound."""
    if named := [name for name in _EXPERTS if config.get(name)]:
        raise LimitUnknown(
            f"{engine_dir}: what a model with {named[0]} reads for a token is not counted",
            "measure it: slipstream profile run",
        )


__all__ = ["openvino_work"]
