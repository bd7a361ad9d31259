"""Does a plan fit its card, and if not, what would make it?"""

from collections.abc import Iterator
from typing import Any

from slipstream import InputError
from slipstream.engines.protocols import QuantizationMethod, QuantizationSpec
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan, plan_memory
from slipstream.engines.tensorrt_llm.planning.quantization import (
    SCHEMES,
    UnsupportedQuantization,
    check_quantization,
    scheme_of,
)
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape

_FEW_TOKENS = 2048  # enough to fill a GPU in one step


class DoesNotFit(InputError):
    """The plan needs more memory than the GPU has; the remedy is what would make it fit."""


def require_fit(
    options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, draft: ModelShape | None = None
) -> MemoryPlan:
    """The plan, if it fits.

    Raises:
        DoesNotFit: with the numbers, and the changes of which each alone would make it fit.
    """
    plan = plan_memory(options, spec, shape, draft)
    if plan.fits:
        return plan
    table = ", ".join(f"{name} {size / 2**30:.1f} GiB" for name, size in plan.rows())
    needed = options.kv_cache.full_sequences
    per_token = plan.target.kv_per_token + (plan.draft.kv_per_token if plan.draft else 0)
    raise DoesNotFit(
        f"{options.gpu.name} has {plan.card.memory_bytes / 2**30:.1f} GiB: {table}; at {per_token:,} bytes a token "
        f"that holds {plan.full_sequences} sequences of {options.max_seq_len} tokens, and {needed} have to fit",
        "; or ".join(_ways_out(options, spec, shape, draft)) or "choose a larger GPU or a smaller model",
    )


def _ways_out(
    options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, draft: ModelShape | None
) -> Iterator[str]:
    """Single changes that would do, the smallest of each kind; each is checked and planned before it is told."""
    told = set()
    for field, value, changed, quantized in (*_smaller(options, spec), *_cheaper(options, spec)):
        if field not in told and _would_do(changed, quantized, shape, draft):
            told.add(field)
            yield f"set {field}: {value}"


def _would_do(options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, draft: ModelShape | None) -> bool:
    try:
        check_quantization(spec, options, shape)
    except UnsupportedQuantization:
        return False
    return plan_memory(options, spec, shape, draft).fits


_Change = tuple[str, str | int, TensorRtLlmOptions, QuantizationSpec]


def _smaller(options: TensorRtLlmOptions, spec: QuantizationSpec) -> Iterator[_Change]:
    def changed(field: str, value: str | int, **fields: Any) -> _Change:
        return field, value, options.model_copy(update=fields), spec

    if options.kv_cache.dtype != "fp8":
        cache = options.kv_cache.model_copy(update={"dtype": "fp8"})
        yield changed("kv_cache.dtype", "fp8", kv_cache=cache)
    batch = options.max_batch_size // 2
    while batch >= options.kv_cache.full_sequences:
        yield changed("max_batch_size", batch, max_batch_size=batch)
        batch //= 2
    if options.max_num_tokens > _FEW_TOKENS >= options.max_batch_size and options.chunked_context:
        yield changed("max_num_tokens", _FEW_TOKENS, max_num_tokens=_FEW_TOKENS)
    for gpus in (2, 4, 8):
        if gpus > options.tensor_parallel:
            yield changed("tensor_parallel", gpus, tensor_parallel=gpus)


def _cheaper(options: TensorRtLlmOptions, spec: QuantizationSpec) -> Iterator[_Change]:
    cheaper: tuple[QuantizationMethod, ...] = ("fp8", "awq")
    for method in cheaper:
        if SCHEMES[method].bytes_per_weight < scheme_of(spec).bytes_per_weight:
            quantized = QuantizationSpec(method=method, group_size=128, symmetric=True)
            yield "quantization.method", method, options, quantized


__all__ = ["DoesNotFit", "require_fit"]
