"""Quantization with NVIDIA ModelOpt, on a CPU, into the two checkpoint formats that TensorRT-LLM reads.

NVIDIA's own ``quantize.py`` does the same, but starts only where there is a GPU.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import EnvironmentFault
from slipstream.engines.protocols import Progress, QuantizationSpec
from slipstream.engines.tensorrt_llm.contract import check_checkpoint_config, check_hf_quant_config
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

# ModelOpt's names for decoders, by Hugging Face's model_type.
_DECODERS: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen"}
# Families whose engine checkpoint ModelOpt 0.37 describes by itself; for others it asks TensorRT-LLM.
_DESCRIBED_ALONE = frozenset({"llama", "mistral"})
_QUANTIZING = 0.8  # the share of the work that is done when only the export is left


def storage_dtype(options: TensorRtLlmOptions, checkpoint: Path) -> str:
    """``float16`` or ``bfloat16``: what the options say, or the checkpoint's own; float32 becomes float16.

    Source: ``infer_dtype`` of NVIDIA's convert scripts, by the help text of their ``--dtype``.
    """
    if options.dtype != "auto":
        return options.dtype
    config = json.loads((checkpoint / "config.json").read_bytes())
    stored = config.get("dtype", config.get("torch_dtype"))
    return "bfloat16" if stored == "bfloat16" else "float16"


def quantize_and_export(
    checkpoint: Path,
    spec: QuantizationSpec,
    options: TensorRtLlmOptions,
    shape: ModelShape,
    calibration: Sequence[Sequence[int]],
    out: Path,
    progress: Progress,
) -> None:
    """Write ``checkpoint``, quantized, to ``out``: for mode engine a TensorRT-LLM checkpoint, else Hugging Face's.

    Needs about three times the 16-bit checkpoint's bytes in memory.

    Args:
        calibration: token ids that activations are observed on; AWQ goes over them twice.

    Raises:
        EnvironmentFault: ModelOpt needs TensorRT-LLM beside it to describe this family's engine checkpoint.
        ContractViolation: ModelOpt wrote what 1.2.1 would not read.
    """
    _require_description(options, shape)
    import torch
    from transformers import AutoModelForCausalLM

    mtq = _modelopt()
    dtype = getattr(torch, storage_dtype(options, checkpoint))
    progress(0.0, "loading")
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, local_files_only=True)
    passes = 2 if spec.method == "awq" else 1
    steps, done = passes * len(calibration), 0

    def observe(observed: "PreTrainedModel") -> None:
        nonlocal done
        for ids in calibration:
            observed(torch.tensor([list(ids)]))
            done += 1
            progress(min(_QUANTIZING, _QUANTIZING * done / steps), f"observing activations, {done} of {steps}")

    with torch.inference_mode():
        mtq.quantize(model, _configuration(mtq, spec, options), observe)
        progress(_QUANTIZING, "exporting")
        if options.mode == "engine":
            _export_engine(model, dtype, options, shape, out)
        else:
            _export_llmapi(model, out)


def _require_description(options: TensorRtLlmOptions, shape: ModelShape) -> None:
    described = shape.model_type in _DESCRIBED_ALONE or find_spec("tensorrt_llm") is not None
    if options.mode == "engine" and not described:
        raise EnvironmentFault(
            f"ModelOpt writes an engine checkpoint of a {shape.model_type} only beside TensorRT-LLM",
            "run it in the container: slipstream build RECIPE --emit-script; or set tensorrt_llm.mode: llmapi",
        )


def _modelopt() -> Any:
    """The quantization module. It warns of transformers 4.57, which TensorRT-LLM 1.2.1 pins beside this ModelOpt."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "transformers version", UserWarning)
        import modelopt.torch.quantization
    return modelopt.torch.quantization


def _configuration(mtq: Any, spec: QuantizationSpec, options: TensorRtLlmOptions) -> dict[str, Any]:
    chosen: dict[str, Any] = deepcopy(mtq.INT4_AWQ_CFG if spec.method == "awq" else mtq.FP8_DEFAULT_CFG)
    if spec.method == "awq":
        chosen["quant_cfg"]["*weight_quantizer"]["block_sizes"][-1] = spec.group_size
    if options.kv_cache.dtype == "fp8":
        chosen["quant_cfg"].update(deepcopy(mtq.FP8_KV_CFG["quant_cfg"]))
    return chosen


def _export_engine(
    model: "PreTrainedModel", dtype: "torch.dtype", options: TensorRtLlmOptions, shape: ModelShape, out: Path
) -> None:
    from modelopt.torch.export import export_tensorrt_llm_checkpoint

    decoder = _DECODERS[shape.model_type]
    with warnings.catch_warnings():
        # Said of every model whose head could be quantized; ours is not, as `exclude_modules` tells.
        warnings.filterwarnings("ignore", "Enable lm_head quantization", UserWarning)
        # Without TensorRT-LLM beside it ModelOpt fills in the configuration by itself, which is checked below.
        warnings.filterwarnings("ignore", "Cannot export tensorrt_llm checkpoint config", UserWarning)
        export_tensorrt_llm_checkpoint(model, decoder, dtype, out, inference_tensor_parallel=options.tensor_parallel)
    path = out / "config.json"
    config = json.loads(path.read_bytes())
    config |= builder_fields(model.config, decoder, config)
    check_checkpoint_config(config)
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def builder_fields(source: "PretrainedConfig", decoder: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What ModelOpt leaves out of ``config``; ``quantize_by_modelopt.py`` of TensorRT-LLM adds the same.

    Args:
        source: the configuration of the Hugging Face checkpoint.
        decoder: ModelOpt's name of the family.
    """
    architectures: list[str] = source.architectures or []
    added: dict[str, Any] = {"architecture": architectures[0], "model_type": decoder}
    if "rotary_scaling" not in config and getattr(source, "rope_scaling", None):
        added["rotary_scaling"] = source.rope_scaling
    if decoder == "qwen":
        added |= {
            "qwen_type": source.model_type,
            "norm_epsilon": source.rms_norm_eps,
            "rotary_base": source.rope_theta,
            "intermediate_size": source.intermediate_size,
        }
    return added


def _export_llmapi(model: "PreTrainedModel", out: Path) -> None:
    from modelopt.torch.export import export_hf_checkpoint

    with warnings.catch_warnings():
        # Said of itself by ModelOpt 0.37 for each matrix in FP8.
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        export_hf_checkpoint(model, export_dir=out)
    check_hf_quant_config(json.loads((out / "hf_quant_config.json").read_bytes()))


__all__ = ["builder_fields", "quantize_and_export", "storage_dtype"]
