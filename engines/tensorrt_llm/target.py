"""The TensorRT-LLM target: what can be made on a CPU is made here, and what needs the container runs in it.

``quantize`` writes, and ``compile`` reads::

    serving.json     see `slipstream.engines.tensorrt_llm.runtime.served`
    host.json        what the memory plan asks of a host
    target/          mode engine: a TensorRT-LLM checkpoint, or Hugging Face's where NVIDIA's script converts it
                     mode llmapi: the checkpoint that `tensorrt_llm.LLM` loads, tokenizer included
    draft/           the draft's Hugging Face checkpoint, in 16 bits

``compile`` writes the same layout with engines in the folders. An engine is proven by the Triton that loads it: the
native backend has no other interface, so here only what the compiler wrote is checked.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slipstream import EnvironmentFault, InputError
from slipstream.engines.gpu import GpuSurvey, probe_gpus
from slipstream.engines.protocols import Compiled, Progress, QuantizationSpec, Scorer
from slipstream.engines.tensorrt_llm.compiling.building import build_engines
from slipstream.engines.tensorrt_llm.compiling.gptq import quantize_gptq
from slipstream.engines.tensorrt_llm.compiling.modelopt_export import quantize_and_export
from slipstream.engines.tensorrt_llm.compiling.serving import served_engine
from slipstream.engines.tensorrt_llm.contract import facts
from slipstream.engines.tensorrt_llm.fingerprint import fingerprint_of, installed_release, require_gpus
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import require_fit
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan
from slipstream.engines.tensorrt_llm.planning.quantization import (
    check_draft,
    check_format,
    check_quantization,
    check_width,
    scheme_of,
)
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, read_shape
from slipstream.engines.tensorrt_llm.planning.vocabulary import require_same_vocabulary
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, SERVING, TARGET, ServedEngine

_HOST = "host.json"
_COPIED = {".safetensors", ".json", ".jinja", ".txt", ".model"}
_LIBRARIES = ("nvidia-modelopt", "gptqmodel", "torch", "transformers")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class TensorRtLlmTarget:
    """Implements `slipstream.engines.protocols.Target` for NVIDIA GPUs.

    Args:
        options: the recipe's section; only `check_host` goes without.
        draft: the draft's checkpoint, where ``options.speculative`` names one.
        survey: asks the driver for its GPUs.
        release: the version of TensorRT-LLM that is installed, empty for none.
    """

    name = "tensorrt_llm"

    def __init__(
        self,
        options: TensorRtLlmOptions | None = None,
        draft: Path | None = None,
        survey: Callable[[], GpuSurvey] = probe_gpus,
        release: Callable[[], str] = installed_release,
    ) -> None:
        self._given, self._draft = options, draft
        self._survey, self._release = survey, release

    def versions(self) -> dict[str, str]:
        libraries = {name: _installed(name) for name in _LIBRARIES}
        return {**libraries, "tensorrt_llm": facts("commands")["read_at"]["tensorrt_llm"]}

    def check_quantization(self, spec: QuantizationSpec, widths: Sequence[int]) -> None:
        """See `Target.check_quantization`; what depends on GPU, mode and family is checked with the shape.

        Raises:
            UnsupportedQuantization: no such kernel, or groups that do not divide the widths.
        """
        check_format(spec)
        for width in widths:
            check_width(spec, width, "a layer")

    def quantize(
        self,
        checkpoint: Path,
        spec: QuantizationSpec,
        calibration: Sequence[Sequence[int]],
        out: Path,
        progress: Progress,
        exported: Path | None = None,
    ) -> dict[str, Any]:
        """Write the layout above; see `Target.quantize`. AWQ and FP8 are ModelOpt's, GPTQ is GPTQModel's.

        Raises:
            UnsupportedQuantization, DoesNotFit, VocabularyMismatch: before any work.
            EnvironmentFault: it can only be quantized in the container; says so.
        """
        options, target = self._options, out / TARGET
        shape, plan = self._checked(checkpoint, spec)
        if scheme_of(spec).algorithm and not any(calibration):
            raise InputError(f"{spec.method} needs calibration text; there is none", "set calibration in the recipe")
        target.mkdir()
        if spec.method in {"awq", "fp8"}:
            quantize_and_export(checkpoint, spec, options, shape, calibration, target, progress)
        elif spec.method == "gptq":
            progress(0.0, "quantizing with GPTQModel")
            quantize_gptq(checkpoint, spec, calibration, target)
        else:
            _copy_checkpoint(checkpoint, target)
        for name in _TOKENIZER_FILES:
            if (checkpoint / name).exists():
                shutil.copyfile(checkpoint / name, target / name)
        if self._draft is not None:
            _copy_checkpoint(self._draft, out / DRAFT)
        served_engine(options, shape, plan, end_tokens(checkpoint)).write(out)
        (out / _HOST).write_text(json.dumps(fingerprint_of(options, plan)), encoding="utf-8")
        progress(1.0, "quantized")
        return {
            "algorithm": scheme_of(spec).algorithm or "none",
            "weights_bytes": sum(path.stat().st_size for path in target.glob("*.safetensors")),
            "calibration_sequences": len(calibration) if scheme_of(spec).algorithm else 0,
        }

    def scorer(self, quantized: Path, *, exact: bool = False) -> Scorer:
        """
        Raises:
            EnvironmentFault: always: its kernels run on GPUs only, and the engine gives no logits.
        """
        raise EnvironmentFault(
            "a TensorRT-LLM checkpoint cannot be scored on a CPU",
            "set evaluation: null, and compare the methods with target: openvino",
        )

    def compile(self, quantized: Path, out: Path, progress: Progress) -> Compiled:
        """Build the engines, or in mode llmapi place the checkpoint, which compiles nothing.

        Raises:
            HostMismatch: this is no machine that it was planned for.
            EnvironmentFault: there is no ``trtllm-build`` here; remedy: the script for the container.
            BuildFailed: NVIDIA's program ended with an error.
            ContractViolation: it wrote what 1.2.1 would not load.
        """
        served = ServedEngine.read(quantized)
        options = served.options
        roles = [name for name in (TARGET, DRAFT) if (quantized / name).is_dir()]
        fingerprint: dict[str, Any] = json.loads((quantized / _HOST).read_bytes())
        if options.mode == "llmapi":
            for role in roles:
                progress(0.0, f"placing the {role}")
                shutil.copytree(quantized / role, out / role)
        else:
            survey = self._survey()
            require_gpus(fingerprint, survey, self._release())
            build_engines(options, quantized, out, roles, progress)
            fingerprint["gpu"] = survey.gpus[0].name
        shutil.copyfile(quantized / SERVING, out / SERVING)
        progress(1.0, "compiled")
        release = {"tensorrt_llm": facts("commands")["read_at"]["tensorrt_llm"]}
        return Compiled(self.name, fingerprint, release)

    def check_host(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse a host whose GPUs or TensorRT-LLM are not those of ``fingerprint``; see `require_gpus`."""
        require_gpus(fingerprint, self._survey(), self._release())

    @property
    def _options(self) -> TensorRtLlmOptions:
        if self._given is None:
            raise InputError("this target was made without options", "add a section tensorrt_llm to the recipe")
        return self._given

    def _checked(self, checkpoint: Path, spec: QuantizationSpec) -> tuple[ModelShape, MemoryPlan]:
        options = self._options
        if (self._draft is not None) != (options.speculative.draft_model is not None):
            raise InputError("speculative.draft_model and a draft checkpoint belong together", "resolve the draft too")
        shape = read_shape(checkpoint)
        check_quantization(spec, options, shape)
        draft = None if self._draft is None else read_shape(self._draft)
        if draft is not None:
            check_draft(options, draft)
        plan = require_fit(options, spec, shape, draft)
        if self._draft is not None and options.speculative.method == "draft_target":
            require_same_vocabulary(checkpoint, self._draft)
        return shape, plan


def end_tokens(checkpoint: Path) -> tuple[int, ...]:
    """The ids that end a sequence, as ``generation_config.json`` says, or else ``config.json``.

    Raises:
        InputError: neither says.
    """
    for name in ("generation_config.json", "config.json"):
        path = checkpoint / name
        found = json.loads(path.read_bytes()).get("eos_token_id") if path.exists() else None
        if found is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    raise InputError(f"{checkpoint} names no eos_token_id", "add it to generation_config.json")


def _copy_checkpoint(checkpoint: Path, to: Path) -> None:
    """Weights and what describes them; never what could be run.

    Raises:
        InputError: its weights are in another format.
    """
    if not any(checkpoint.glob("*.safetensors")):
        raise InputError(f"{checkpoint} has no *.safetensors", "give a checkpoint in that format")
    to.mkdir(exist_ok=True)
    for path in checkpoint.iterdir():
        if path.suffix in _COPIED:
            shutil.copyfile(path, to / path.name)


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


__all__ = ["TensorRtLlmTarget", "end_tokens"]
