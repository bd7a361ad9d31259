"""How a recipe's ``quantization`` is stored for TensorRT-LLM 1.2.1, and what of it cannot be.

============ =============== ======================================================================================
method       algorithm       made by
============ =============== ======================================================================================
``awq``      W4A16_AWQ       ModelOpt: 4-bit groups after activation-aware scaling (arXiv:2306.00978)
``gptq``     W4A16_GPTQ      GPTQModel, an environment of its own, then ``convert_checkpoint.py``; mode engine only
``fp8``      FP8             ModelOpt: E4M3 weights and activations, one scale per tensor (arXiv:2209.05433)
``none``     none            the checkpoint's 16-bit weights
============ =============== ======================================================================================

``awq_gptq`` and a ``ratio`` below 1 have no kernel there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slipstream import InputError
from slipstream.engines.protocols import QuantizationMethod, QuantizationSpec
from slipstream.engines.tensorrt_llm.contract import facts
from slipstream.engines.tensorrt_llm.contract.checkpoint import GROUP_SIZES
from slipstream.engines.tensorrt_llm.options import Mode, TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.shapes import Linear, ModelShape


class UnsupportedQuantization(InputError):
    """TensorRT-LLM 1.2.1 has no kernel for it on this GPU, in this mode or for this model."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one weight is stored: ``algorithm`` is TensorRT-LLM's name, None for 16 bits.

    ``bytes_per_group`` are the 16-bit scale, and the zero point that GPTQ's kernel wants beside it, of each group.
    """

    algorithm: str | None
    bytes_per_weight: float
    bytes_per_group: int = 0
    scales_inputs: bool = False

    def bytes_of(self, linear: Linear, group_size: int) -> float:
        """Bytes of ``linear`` with its scales."""
        weights = linear.inputs * linear.outputs
        groups = weights / group_size if self.bytes_per_group else 0
        inputs = 2 * linear.inputs if self.scales_inputs else 0
        return linear.count * (weights * self.bytes_per_weight + groups * self.bytes_per_group + inputs)


SCHEMES: Mapping[QuantizationMethod, Scheme] = {
    "none": Scheme(None, 2),
    "awq": Scheme("W4A16_AWQ", 0.5, bytes_per_group=2, scales_inputs=True),
    "gptq": Scheme("W4A16_GPTQ", 0.5, bytes_per_group=4),
    "fp8": Scheme("FP8", 1),
}
# What each mode serves, and with which methods. Families whose convert script or ModelOpt exporter is known to be
# there; DeepSeek-V2: examples/models/contrib/deepseek_v2/README.md (BF16 only, MLA kernels for Hopper), and the PyTorch
# backend registers DeepSeek-V3 only.
_FAMILIES: Mapping[Mode, Mapping[str, frozenset[QuantizationMethod]]] = {
    "engine": {
        "llama": frozenset({"none", "awq", "gptq", "fp8"}),
        "mistral": frozenset({"none", "awq", "fp8"}),
        "qwen2": frozenset({"none", "awq", "gptq", "fp8"}),
        "deepseek_v2": frozenset({"none"}),
    },
    "llmapi": {
        "llama": frozenset({"none", "awq", "fp8"}),
        "mistral": frozenset({"none", "awq", "fp8"}),
        "qwen2": frozenset({"none", "awq", "fp8"}),
    },
}
_HOPPER = 90


def scheme_of(spec: QuantizationSpec) -> Scheme:
    """How ``spec`` stores a weight.

    Raises:
        UnsupportedQuantization: there is no such algorithm in 1.2.1.
    """
    if spec.method not in SCHEMES:
        raise UnsupportedQuantization(
            f"TensorRT-LLM has no algorithm for quantization.method {spec.method}",
            f"use one of: {', '.join(SCHEMES)}",
        )
    return SCHEMES[spec.method]


def check_quantization(spec: QuantizationSpec, options: TensorRtLlmOptions, shape: ModelShape) -> None:
    """Refuse what could not be built or served; reads nothing, takes no time.

    Raises:
        UnsupportedQuantization: the first thing that does not fit, with what to write instead.
    """
    scheme = scheme_of(spec)
    _check_family(spec, options, shape)
    _check_length(options, shape)
    _check_card(scheme, options)
    _check_cache(spec, options)
    _check_shares(options.tensor_parallel, shape)
    check_format(spec)
    if scheme.bytes_per_group:
        _check_shards(spec, options.tensor_parallel, shape)
    if options.gemm_plugin == "fp8" and spec.method != "fp8":
        raise UnsupportedQuantization(
            f"gemm_plugin fp8 needs FP8 weights, not {spec.method}",
            "set gemm_plugin: auto, or quantization.method: fp8",
        )


def _check_family(spec: QuantizationSpec, options: TensorRtLlmOptions, shape: ModelShape) -> None:
    families = _FAMILIES[options.mode]
    if shape.model_type not in families:
        raise UnsupportedQuantization(
            f"mode {options.mode} builds no {shape.model_type!r} model", f"choose a model of: {', '.join(families)}"
        )
    methods = families[shape.model_type]
    if spec.method not in methods:
        raise UnsupportedQuantization(
            f"mode {options.mode} has no quantization.method {spec.method} for {shape.model_type}",
            f"use one of: {', '.join(sorted(methods))}",
        )
    if shape.model_type == "deepseek_v2" and options.dtype == "auto":
        raise UnsupportedQuantization(
            "the convert script of deepseek_v2 takes no --dtype auto", "set tensorrt_llm.dtype: bfloat16"
        )
    if shape.model_type == "deepseek_v2" and options.gpu.sm != _HOPPER:
        raise UnsupportedQuantization(
            f"the MLA kernels of engines are Hopper's; {options.gpu.name} is {options.gpu.compute_capability}",
            "set tensorrt_llm.gpu: h100 or h200",
        )


def _check_length(options: TensorRtLlmOptions, shape: ModelShape) -> None:
    """TensorRT-LLM only warns of positions that a model never saw. Scaled ones are the model's own affair."""
    if options.max_seq_len > shape.max_position_embeddings and shape.rope_scaling is None:
        raise UnsupportedQuantization(
            f"max_seq_len {options.max_seq_len} exceeds the {shape.max_position_embeddings} positions of the model",
            f"set tensorrt_llm.max_seq_len: {shape.max_position_embeddings} or less",
        )


def _check_card(scheme: Scheme, options: TensorRtLlmOptions) -> None:
    capable = facts("quantization")["compute_capabilities"]
    wanted = [scheme.algorithm] if scheme.algorithm else []
    wanted += ["FP8_KV"] if options.kv_cache.dtype == "fp8" else []
    for algorithm in wanted:
        if options.gpu.sm not in capable[algorithm]:
            raise UnsupportedQuantization(
                f"{algorithm} has no kernels for compute capability {options.gpu.compute_capability} "
                f"({options.gpu.name})",
                f"use a GPU of: {', '.join(f'{sm // 10}.{sm % 10}' for sm in capable[algorithm])}",
            )


def scales_cache(mode: Mode, spec: QuantizationSpec) -> bool:
    """Whether a model of ``spec`` has an FP8 cache where the options say so; it keeps one of 16 bits otherwise.

    An engine's needs scales that ModelOpt calibrates with the weights; the LLM class takes 1.0.
    """
    return mode == "llmapi" or spec.method in {"awq", "fp8"}


def _check_cache(spec: QuantizationSpec, options: TensorRtLlmOptions) -> None:
    if options.kv_cache.dtype == "fp8" and not scales_cache(options.mode, spec):
        raise UnsupportedQuantization(
            f"an engine with quantization.method {spec.method} gets no scales for an FP8 KV cache",
            "set kv_cache.dtype: auto, or quantization.method: awq or fp8",
        )


def check_draft(options: TensorRtLlmOptions, draft: ModelShape) -> None:
    """Refuse a draft, which is stored in 16 bits, that could not be converted or shared by the GPUs.

    Raises:
        UnsupportedQuantization: saying that it is the draft.
    """
    try:
        _check_family(QuantizationSpec(method="none"), options, draft)
        _check_shares(options.tensor_parallel, draft)
    except UnsupportedQuantization as error:
        raise UnsupportedQuantization(f"speculative.draft_model: {error.message}", error.remedy) from error


def _check_shares(gpus: int, shape: ModelShape) -> None:
    heads, kv_heads = shape.num_attention_heads, shape.num_key_value_heads
    if heads % gpus or (kv_heads % gpus and gpus % kv_heads):
        raise UnsupportedQuantization(
            f"{heads} attention heads and {kv_heads} KV heads cannot be shared by {gpus} GPUs",
            "set tensor_parallel to a number that divides both",
        )
    for width in {shape.intermediate_size, shape.moe_intermediate_size}:
        if width % gpus:
            raise UnsupportedQuantization(
                f"a feed-forward of width {width} cannot be shared by {gpus} GPUs",
                "set tensor_parallel to a number that divides it",
            )


def check_format(spec: QuantizationSpec) -> None:
    """Refuse bits, symmetry, ratio and group sizes that the kernels of ``spec.method`` do not have.

    Raises:
        UnsupportedQuantization: with what to write instead.
    """
    if not scheme_of(spec).bytes_per_group:
        return
    if spec.bits != 4 or not spec.symmetric or spec.ratio != 1.0:
        raise UnsupportedQuantization(
            f"{spec.method} for TensorRT-LLM is 4 bits, symmetric and all of the weights, not "
            f"{spec.bits} bits, {'symmetric' if spec.symmetric else 'asymmetric'}, ratio {spec.ratio}",
            "set quantization.bits: 4, symmetric: true and ratio: 1.0",
        )
    if spec.group_size not in GROUP_SIZES:
        raise UnsupportedQuantization(
            f"the 4-bit kernels know groups of 64 and 128, not {spec.group_size}", "set quantization.group_size: 128"
        )


def check_width(spec: QuantizationSpec, inputs: int, name: str) -> None:
    """Refuse groups that do not divide ``inputs``, the input width of ``name``.

    Raises:
        UnsupportedQuantization: with the group size that would.
    """
    if scheme_of(spec).bytes_per_group and inputs % spec.group_size:
        fitting = [size for size in GROUP_SIZES if inputs % size == 0]
        raise UnsupportedQuantization(
            f"group_size {spec.group_size} does not divide the {inputs} inputs of {name}",
            f"set quantization.group_size: {fitting[0]}" if fitting else "set a smaller tensor_parallel",
        )


def _check_shards(spec: QuantizationSpec, gpus: int, shape: ModelShape) -> None:
    for linear in (whole.on_one_of(gpus) for whole in shape.linears()):
        check_width(spec, linear.inputs, f"{linear.name} on one GPU")
        if linear.outputs % 2:
            raise UnsupportedQuantization(
                f"{linear.name} has an odd number of outputs on one GPU: {linear.outputs}",
                "set a smaller tensor_parallel",
            )


__all__ = [
    "SCHEMES", "Scheme", "UnsupportedQuantization", "check_draft", "check_format", "check_quantization", "check_width",
    "scales_cache", "scheme_of",
]  # fmt: skip
