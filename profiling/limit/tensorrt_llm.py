"""The work of a TensorRT-LLM engine, from what it was built of: its shape, the bits of its weights, its cache.

A compiled engine says nothing of its matrices, so they are counted from the model's shape: a decoder with grouped KV
heads and a gated feed-forward (arXiv:2305.13245, arXiv:2002.05202). Experts and latent attention are refused: which
experts a token reads depends on the token.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.profiling.limit.work import Arithmetic, LimitUnknown, Work

# Bytes of a weight and of what each group of weights has beside it, as `engines.tensorrt_llm.planning` stores them.
_STORED: Mapping[str, tuple[float, int]] = {"none": (2, 0), "awq": (0.5, 2), "gptq": (0.5, 4), "fp8": (1, 0)}
_OTHERS = ("kv_lora_rank", "n_routed_experts", "num_local_experts", "num_experts")


@dataclass(frozen=True, slots=True)
class Planned:
    """What an engine was built for: a card of the name ``gpu``, ``gpus`` of them."""

    gpu: str
    gpus: int


def tensorrt_llm_work(engine_dir: Path, quantization: Mapping[str, Any]) -> tuple[Work, Planned]:
    """What the engine in ``engine_dir`` reads and computes, and on what.

    Args:
        quantization: the manifest's: ``method`` and ``group_size``.

    Raises:
        LimitUnknown: the folder is no such engine, or its family is not counted here.
    """
    try:
        serving = json.loads((engine_dir / "serving.json").read_bytes())["options"]
        config = json.loads((engine_dir / "target" / "config.json").read_bytes())
        config = config.get("pretrained_config", config)
        experts = config.get("moe") or {}  # where the compiler's own config has their number
        if other := [name for name in _OTHERS if config.get(name) or experts.get(name)]:
            raise LimitUnknown(
                f"{engine_dir}: what a model with {other[0]} reads for a token is not counted",
                "measure it: slipstream profile run",
            )
        planned = Planned(str(serving["gpu"]["name"]), int(serving["tensor_parallel"]))
        return _work(config, serving, quantization), planned
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise LimitUnknown(
            f"{engine_dir} is not a TensorRT-LLM engine: {error!r}", "slipstream build RECIPE"
        ) from error


def _work(config: Mapping[str, Any], serving: Mapping[str, Any], quantization: Mapping[str, Any]) -> Work:
    layers, heads, hidden = config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    width = config.get("head_size") or config.get("head_dim") or hidden // heads
    attention = hidden * width * (heads + 2 * kv_heads) + heads * width * hidden
    linears = layers * (attention + 3 * hidden * config["intermediate_size"])
    head = hidden * config["vocab_size"]
    if min(layers, heads, kv_heads, width, linears, head) < 1:
        raise ValueError("a model without layers, heads or channels")
    method = str(quantization["method"])
    per_weight, per_group = _STORED[method]
    groups = linears / quantization["group_size"] if per_group else 0
    # An engine has no scales for an 8-bit cache but those that ModelOpt makes with the weights.
    scaled = serving["mode"] == "llmapi" or method in {"awq", "fp8"}
    kv_element = 1 if serving["kv_cache"]["dtype"] == "fp8" and scaled else 2
    arithmetic: Arithmetic = "8-bit" if method == "fp8" else "16-bit"
    return Work(
        weight_bytes=int(linears * per_weight + groups * per_group) + 2 * head,
        row_bytes=2 * hidden,
        parameters=linears + head,
        head_parameters=head,
        kv_bytes_per_token=kv_element * layers * 2 * kv_heads * width,
        attention_width=layers * heads * width,
        tokens_per_step=1 + _proposed(serving["speculative"]),
        arithmetic=arithmetic,
        precision="8-bit" if kv_element == 1 else "16-bit",
    )


def _proposed(speculative: Mapping[str, Any]) -> int:
    """Tokens that one step can gain; of Lookahead's branches one is taken, of ``max_ngram_size - 1`` tokens at most."""
    if speculative["method"] == "none":
        return 0
    if speculative["method"] == "lookahead":
        return int(speculative["max_ngram_size"]) - 1
    return int(speculative["max_draft_len"])


__all__ = ["Planned", "tensorrt_llm_work"]
