"""Which machine an engine is for, and whether this is one."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from slipstream.engines.gpu import MIB, Gpu, GpuSurvey
from slipstream.engines.protocols import HostMismatch
from slipstream.engines.tensorrt_llm.contract import facts
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan

_IN_CONTAINER = "run it in the container {container}"


def fingerprint_of(options: TensorRtLlmOptions, plan: MemoryPlan) -> dict[str, Any]:
    """What a host has to offer.

    An engine asks for more: ``gpu``, NVML's name of the GPU that it was compiled on, because TensorRT warns that
    another model of the same architecture may be slow or fail (its developer guide, on engine compatibility).
    """
    needed = plan.card.memory_bytes - plan.free_bytes + plan.needed_kv_bytes
    return {
        "tensorrt_llm": facts("commands")["read_at"]["tensorrt_llm"],
        "compute_capability": options.gpu.compute_capability,
        "gpus": options.tensor_parallel,
        "gpu_memory_mib": -(-needed // MIB),
    }


def require_gpus(fingerprint: Mapping[str, Any], survey: GpuSurvey, installed: str) -> None:
    """Refuse a host whose GPUs or TensorRT-LLM an engine with ``fingerprint`` was not made for.

    The release has to be the same to the last digit, and so the compute capability; memory may be more. A field that
    this version does not know is refused, because it was put there to be obeyed.

    Args:
        installed: the version of TensorRT-LLM here; empty for none.

    Raises:
        HostMismatch: the first thing that does not fit, with one line of remedy.
    """
    unknown = set(fingerprint) - {"tensorrt_llm", "compute_capability", "gpus", "gpu_memory_mib", "gpu"}
    if unknown:
        raise HostMismatch(
            f"the engine demands {', '.join(sorted(unknown))}, which this version of Slipstream does not know",
            "serve it with the version of Slipstream that built it, or build it anew: slipstream build RECIPE",
        )
    _require_release(str(fingerprint.get("tensorrt_llm", "")), installed)
    if survey.problem is not None:
        raise HostMismatch(f"no GPU can be asked: {survey.problem.message}", "slipstream doctor says what is missing")
    fitting = [gpu for gpu in survey.gpus if not _fault(fingerprint, gpu)]
    if len(fitting) < int(fingerprint.get("gpus", 1)):
        faults = "; ".join(f"GPU {gpu.index}: {_fault(fingerprint, gpu)}" for gpu in survey.gpus if gpu not in fitting)
        raise HostMismatch(
            f"the engine needs {fingerprint.get('gpus', 1)} GPUs like the one it was built for; {len(fitting)} are here"
            + (f" ({faults})" if faults else ""),
            "serve it on such a machine, or build it for this one: set tensorrt_llm.gpu in the recipe",
        )


def installed_release() -> str:
    """The version of TensorRT-LLM here, empty for none."""
    try:
        return version("tensorrt_llm")
    except PackageNotFoundError:
        return ""


def _require_release(needed: str, installed: str) -> None:
    if installed != needed:
        raise HostMismatch(
            f"the engine needs TensorRT-LLM {needed} exactly; {installed or 'none'} is installed",
            _IN_CONTAINER.format(container=facts("commands")["read_at"]["container"]),
        )


def _fault(fingerprint: Mapping[str, Any], gpu: Gpu) -> str:
    """Why ``gpu`` does not do, or an empty string."""
    capability = ".".join(map(str, gpu.compute_capability))
    memory_bytes = max((part.memory_bytes for part in gpu.mig_instances), default=gpu.memory_bytes)
    if capability != fingerprint.get("compute_capability", capability):
        return f"{gpu.name} has compute capability {capability}, not {fingerprint['compute_capability']}"
    if gpu.name != fingerprint.get("gpu", gpu.name):
        return f"it is a {gpu.name}, and the engine was compiled on a {fingerprint['gpu']}"
    if memory_bytes < int(fingerprint.get("gpu_memory_mib", 0)) * MIB:
        return f"it has {memory_bytes // MIB} MiB, and {fingerprint['gpu_memory_mib']} are needed"
    return ""


__all__ = ["fingerprint_of", "installed_release", "require_gpus"]
