"""The command lines that make an engine, as 1.2.1's programs take them. Each is checked against the contract here.

Inside the container NVIDIA's example scripts lie in ``/app/examples``, and ``trtllm-build`` is on the path.
"""

from collections.abc import Mapping
from pathlib import PurePath

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.contract import check_command
from slipstream.engines.tensorrt_llm.options import SpeculationMethod, TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.quantization import UnsupportedQuantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape

EXAMPLES = PurePath("/app/examples")
QUANTIZE = EXAMPLES / "quantization" / "quantize.py"
CONVERT: Mapping[str, PurePath] = {
    "llama": EXAMPLES / "models" / "core" / "llama" / "convert_checkpoint.py",
    "mistral": EXAMPLES / "models" / "core" / "llama" / "convert_checkpoint.py",
    "qwen2": EXAMPLES / "models" / "core" / "qwen" / "convert_checkpoint.py",
    "deepseek_v2": EXAMPLES / "models" / "contrib" / "deepseek_v2" / "convert_checkpoint.py",
}

_BUILD_MODES: Mapping[SpeculationMethod, str] = {
    "draft_target": "draft_tokens_external",
    "lookahead": "lookahead_decoding",
}
_QFORMATS = {"awq": "int4_awq", "fp8": "fp8"}
# quantize.py lowers more for AWQ in silence; what is written down shall be what was used.
_CALIBRATION_SEQUENCES = {"awq": 32, "fp8": 512}


def build_target(options: TensorRtLlmOptions, checkpoint: PurePath, out: PurePath) -> list[str]:
    """``trtllm-build`` for the model that answers."""
    command = _build(options, checkpoint, out)
    mode = _BUILD_MODES.get(options.speculative.method)
    if mode is not None:
        command += ["--speculative_decoding_mode", mode, "--max_draft_len", str(options.speculative.draft_tokens)]
    return _checked(command)


def build_draft(options: TensorRtLlmOptions, checkpoint: PurePath, out: PurePath) -> list[str]:
    """``trtllm-build`` for the model that proposes: an ordinary engine of the same shapes, in 16 bits."""
    return _checked(_build(options, checkpoint, out))


def convert(
    options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, model: PurePath, out: PurePath
) -> list[str]:
    """NVIDIA's script for the family of ``shape``: 16 bits, or the GPTQ checkpoint in ``model`` taken over.

    Raises:
        UnsupportedQuantization: the scripts quantize nothing else that we build.
    """
    if spec.method not in {"none", "gptq"}:
        raise UnsupportedQuantization(f"convert_checkpoint.py makes no {spec.method}", "use quantize.py for it")
    command = ["python3", str(CONVERT[shape.model_type]), "--model_dir", str(model), "--output_dir", str(out)]
    command += ["--dtype", options.dtype, "--tp_size", str(options.tensor_parallel)]
    if options.tensor_parallel > 1:  # as ModelOpt exports it, and as the memory plan counts
        command.append("--use_parallel_embedding")
    if spec.method == "gptq":
        command += ["--use_weight_only", "--weight_only_precision", "int4_gptq"]
        command += ["--per_group", "--group_size", str(spec.group_size)]
    return _checked(command)


def quantize(
    options: TensorRtLlmOptions, spec: QuantizationSpec, model: PurePath, calibration: PurePath, out: PurePath
) -> list[str]:
    """NVIDIA's ``quantize.py`` (needs a GPU): AWQ or FP8, calibrated on the texts in folder ``calibration``.

    Raises:
        UnsupportedQuantization: it does not make ``spec.method``.
    """
    if spec.method not in _QFORMATS:
        raise UnsupportedQuantization(f"quantize.py makes no {spec.method}", "use convert_checkpoint.py for it")
    command = ["python3", str(QUANTIZE), "--model_dir", str(model), "--output_dir", str(out)]
    command += [
        "--dtype",
        options.dtype,
        "--qformat",
        _QFORMATS[spec.method],
        "--tp_size",
        str(options.tensor_parallel),
    ]
    command += ["--calib_dataset", str(calibration), "--calib_size", str(_CALIBRATION_SEQUENCES[spec.method])]
    if spec.method == "awq":
        command += ["--awq_block_size", str(spec.group_size)]
    if options.kv_cache.dtype == "fp8":
        command += ["--kv_cache_dtype", "fp8"]
    return _checked(command)


def _build(options: TensorRtLlmOptions, checkpoint: PurePath, out: PurePath) -> list[str]:
    numbers = {
        "max_batch_size": options.max_batch_size,
        "max_input_len": longest_input(options),
        "max_seq_len": options.max_seq_len,
        "max_num_tokens": options.max_num_tokens,
        "tokens_per_block": options.kv_cache.tokens_per_block,
        "workers": options.tensor_parallel,
    }
    if options.opt_num_tokens is not None:
        numbers["opt_num_tokens"] = options.opt_num_tokens
    words = {
        "kv_cache_type": "paged",
        "use_paged_context_fmha": _switch(options.paged_context_fmha),
        "gemm_plugin": options.gemm_plugin,
        "multiple_profiles": _switch(options.multiple_profiles),
    }
    command = ["trtllm-build", "--checkpoint_dir", str(checkpoint), "--output_dir", str(out)]
    for name, value in (numbers | words).items():
        command += [f"--{name}", str(value)]
    return command


def longest_input(options: TensorRtLlmOptions) -> int:
    """``max_input_len``; between two engines what was answered so far is prompt: all of ``max_seq_len`` but one."""
    return options.max_seq_len - 1 if options.speculative.method == "draft_target" else options.max_input_len


def _switch(on: bool) -> str:
    return "enable" if on else "disable"


def _checked(command: list[str]) -> list[str]:
    check_command(command)
    return command


__all__ = ["CONVERT", "EXAMPLES", "QUANTIZE", "build_draft", "build_target", "convert", "longest_input", "quantize"]
