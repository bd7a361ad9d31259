"""Running NVIDIA's programs: a checkpoint is converted where it has to be, and compiled."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipstream import EnvironmentFault, GateError
from slipstream.engines.protocols import Progress, QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling import commands
from slipstream.engines.tensorrt_llm.contract import check_checkpoint_config, check_engine_config
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.shapes import read_shape
from slipstream.engines.tensorrt_llm.runtime.served import TARGET

_TOLD = 800  # the end of a failed program's output, characters


class BuildFailed(GateError):
    """One of NVIDIA's programs ended with an error."""


def build_engines(
    options: TensorRtLlmOptions, quantized: Path, out: Path, roles: Sequence[str], progress: Progress
) -> None:
    """Compile each of ``roles`` in ``quantized`` to the folder of its name in ``out``.

    Raises:
        EnvironmentFault: ``trtllm-build`` is not here.
        BuildFailed: with the end of what the program said.
        ContractViolation: a checkpoint or an engine is not 1.2.1's.
    """
    if shutil.which("trtllm-build") is None:
        raise EnvironmentFault(
            "trtllm-build is not on this machine",
            "run the GPU part in NVIDIA's container: slipstream build RECIPE --emit-script",
        )
    for number, role in enumerate(roles):
        progress(number / len(roles), f"building the {role} engine")
        checkpoint = _engine_checkpoint(options, quantized / role, out / f"{role}.checkpoint")
        check_checkpoint_config(_config(checkpoint))
        build = commands.build_target if role == TARGET else commands.build_draft
        _run(build(options, checkpoint, out / role))
        check_engine_config(_config(out / role))
        shutil.rmtree(out / f"{role}.checkpoint", ignore_errors=True)


def _engine_checkpoint(options: TensorRtLlmOptions, folder: Path, converted: Path) -> Path:
    """``folder`` if it is a TensorRT-LLM checkpoint; else what NVIDIA's script makes of it."""
    config = _config(folder)
    if "architecture" in config:  # Hugging Face has `architectures`
        return folder
    stored = config.get("quantization_config") or {}
    spec = QuantizationSpec(method="none")
    if stored.get("quant_method") == "gptq":
        spec = QuantizationSpec(method="gptq", group_size=stored["group_size"], symmetric=True)
    _run(commands.convert(options, spec, read_shape(folder), folder, converted))
    return converted


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        said = done.stdout[-_TOLD:].strip()
        raise BuildFailed(
            f"{command[0]} ended with {done.returncode}: {said}", f"run it by hand: {shlex.join(command)}"
        )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BuildFailed(
            f"{folder} has no readable config.json: {error}", "slipstream build RECIPE, from the start"
        ) from error
    return config


__all__ = ["BuildFailed", "build_engines"]
