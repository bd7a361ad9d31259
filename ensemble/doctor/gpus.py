"""NVIDIA GPUs against what a TensorRT-LLM engine was built for; nothing to look at where the bundle runs on the CPU."""

import json
import os
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from slipstream.engines.gpu import Gpu, GpuSurvey, Reason
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.doctor.finding import Finding, NotExamined, Subject, size

CONTAINER = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
TENSORRT_LLM = "1.2.1"
CUDA = "13.1"
"""Of that container: https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/."""
DRIVER, OLDEST_DRIVER = 580, 535
"""CUDA 13.x runs on drivers from 580 on (CUDA Compatibility, "Minor Version Compatibility", table 1). Older branches
down to 535 run it with the forward compatibility package that the container carries, on data center GPUs only
(the same, "Forward Compatibility": https://docs.nvidia.com/deploy/cuda-compatibility/)."""

_REMEDIES: dict[Reason, str] = {
    "no_binding": "pip install 'slipstream[serve]'",
    "no_library": f"install NVIDIA's driver {DRIVER} or newer; in a container: docker run --gpus all",
    "no_driver": f"load the driver (modprobe nvidia), or install {DRIVER} or newer and reboot",
    "no_permission": "give this user access to /dev/nvidia*; in a container: docker run --gpus all",
    "version_mismatch": "the driver was updated under the running kernel module: reboot",
    "failed": "nvidia-smi tells more; dmesg | grep -i nvrm",
}
_CHOICE = "CUDA_VISIBLE_DEVICES"
_SAME_SIZE = 0.98
"""Cards of one kind differ by some MiB in what their firmware keeps."""
_MOSTLY_FREE = 0.9


def gpu(subject: Subject) -> Finding:
    """As many GPUs as the engine is split over, all of them answering; for a bundle that needs none, what is there."""
    survey = subject.gpus
    try:
        engine = _engine(subject)
    except NotExamined as why:
        raise NotExamined(f"{why}; {_named(survey)}") from None
    if survey.problem is not None:
        return Finding("gpu", "problem", f"NVML: {survey.problem.message}", _REMEDIES[survey.problem.reason])
    said, visible = _named(survey), _visible(survey)
    if (chosen := os.environ.get(_CHOICE)) is not None:
        said += f"; {_CHOICE}={chosen!r}"
        if survey.gpus and not visible:
            return Finding("gpu", "problem", f"{said} hides them all", f"unset {_CHOICE}")
    lost = "".join(f"; GPU {fault.index}: {fault.message}" for fault in survey.faults)
    wanted = engine.options.tensor_parallel
    if len(visible) < wanted:
        remedy = f"serve where {wanted} GPUs answer, or build with tensor_parallel: 1"
        return Finding("gpu", "problem", f"{said}{lost}; the engine needs {wanted}", remedy)
    if lost:
        return Finding("gpu", "warning", said + lost, _REMEDIES["failed"])
    return Finding("gpu", "ok", said)


def gpu_driver(subject: Subject) -> Finding:
    """Driver against the CUDA of the container that TensorRT-LLM runs in."""
    _engine(subject)
    survey = _answering(subject)
    cuda = f" (CUDA {survey.cuda[0]}.{survey.cuda[1]})" if survey.cuda else ""
    said = f"driver {survey.driver}{cuda}; TensorRT-LLM {TENSORRT_LLM} in {CONTAINER} has CUDA {CUDA}"
    remedy = f"install driver {DRIVER} or newer"
    branch = int(survey.driver.partition(".")[0] or 0)
    if branch >= DRIVER:
        return Finding("gpu_driver", "ok", said)
    if branch < OLDEST_DRIVER or any("GeForce" in card.name for card in survey.gpus):
        return Finding("gpu_driver", "problem", f"{said}, which needs {DRIVER}", remedy)
    return Finding(
        "gpu_driver",
        "warning",
        f"{said}, which needs {DRIVER} or, on data center GPUs, its forward compatibility package",
        f"{remedy}, or see that the container says at its start that it uses compatibility mode",
    )


def gpu_engine(subject: Subject) -> Finding:
    """An engine is compiled for one compute capability, and planned for one size of memory."""
    options, cards = _engine(subject).options, _used(subject)
    built = tuple(int(part) for part in options.gpu.compute_capability.split("."))
    there = ", ".join(f"{card.name} {_dotted(card.compute_capability)} with {size(_memory(card))}" for card in cards)
    said = f"built for {options.gpu.name} {options.gpu.compute_capability} with {size(options.gpu.memory_bytes)}; "
    said += f"here: {there}"
    remedy = "build it anew with tensorrt_llm.gpu set to this card: slipstream build RECIPE"
    other = [card for card in cards if card.compute_capability != built]
    if other and (options.mode == "engine" or min(card.compute_capability for card in other) < built):
        return Finding("gpu_engine", "problem", said, remedy)
    if min(_memory(card) for card in cards) < _SAME_SIZE * options.gpu.memory_bytes:
        return Finding("gpu_engine", "problem", said, f"{remedy}, or serve it on a card of that size")
    crowded = [card for card in cards if not card.mig and _free(card) < _MOSTLY_FREE * card.memory_bytes]
    if crowded and subject.server is None:  # a server of this home holds it by right
        said += f"; only {size(_free(crowded[0]))} of GPU {crowded[0].index} is free"
        return Finding("gpu_engine", "warning", said, "nvidia-smi names the processes that hold the rest: stop them")
    return Finding("gpu_engine", "warning" if other else "ok", said, remedy if other else "")


def gpu_mig(subject: Subject) -> Finding:
    """Slices: one has to exist, and an engine that is split over GPUs cannot run on them."""
    engine = _engine(subject)
    sliced = [card for card in _used(subject) if card.mig]
    if not sliced:
        return Finding("gpu_mig", "ok", "no GPU is cut into slices")
    profiles = "; ".join(
        f"GPU {card.index}: {', '.join(part.profile for part in card.mig_instances) or 'none'}" for card in sliced
    )
    if not all(card.mig_instances for card in sliced):
        remedy = "make an instance (nvidia-smi mig -lgip lists profiles; -cgi PROFILE -C), or nvidia-smi -mig 0"
        return Finding("gpu_mig", "problem", f"MIG is on without instances ({profiles})", remedy)
    if engine.options.tensor_parallel > 1:
        said = f"MIG is on ({profiles}), and slices of different GPUs do not reach each other"
        return Finding("gpu_mig", "problem", said, "nvidia-smi -mig 0, or build with tensor_parallel: 1")
    parts = sorted(sliced[0].mig_instances, key=lambda part: part.memory_bytes)
    if parts[0].memory_bytes != parts[-1].memory_bytes:
        said = f"{profiles}: slices of different sizes, of which CUDA takes one"
        return Finding("gpu_mig", "warning", said, f"say which: {_CHOICE}={parts[-1].uuid}")
    return Finding("gpu_mig", "ok", profiles)


def gpu_clocks(subject: Subject) -> Finding:
    """What makes a GPU slower than its data sheet says."""
    _engine(subject)
    cards = _used(subject)
    said = "; ".join(_clocks(card) for card in cards)
    slowed = [card for card in cards if card.slowed_by]
    if slowed:
        remedy = "see to cooling and power (nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE)"
        return Finding("gpu_clocks", "warning", said, remedy)
    capped = [card for card in cards if (card.power_limit_w or 0) < (card.power_default_w or 0)]
    if capped:
        return Finding(
            "gpu_clocks", "warning", said, f"nvidia-smi -i {capped[0].index} -pl {capped[0].power_default_w:.0f}"
        )
    if any(card.persistence is False for card in cards):
        return Finding("gpu_clocks", "warning", said, "nvidia-smi -pm 1: without it the first request wakes the driver")
    return Finding("gpu_clocks", "ok", said)


def tensorrt_llm(subject: Subject) -> Finding:
    """Engines are readable by the version that compiled them."""
    _engine(subject)
    remedy = f"run slipstream inside {CONTAINER}"
    try:
        found = version("tensorrt_llm")
    except PackageNotFoundError:
        return Finding("tensorrt_llm", "problem", "TensorRT-LLM is not installed here", remedy)
    said = f"TensorRT-LLM {found}; engines are built for {TENSORRT_LLM}"
    if found != TENSORRT_LLM:
        return Finding("tensorrt_llm", "problem", said, remedy)
    return Finding("tensorrt_llm", "ok", said)


def container_toolkit(subject: Subject) -> Finding:
    """What hands GPUs to containers."""
    _engine(subject)
    return read_container_toolkit(Path("/"))


_CONTAINERS = (".dockerenv", "run/.containerenv", "run/secrets/kubernetes.io", "NGC-DL-CONTAINER-LICENSE")
"""What Docker, Podman, Kubernetes and NVIDIA's images leave behind; containerd alone leaves nothing."""


def read_container_toolkit(root: Path) -> Finding:
    if any((root / place).exists() for place in _CONTAINERS) or "KUBERNETES_SERVICE_HOST" in os.environ:
        raise NotExamined("this is a container already: GPUs were handed to it, or not, by its host")
    if shutil.which("nvidia-ctk") is None:
        remedy = "install nvidia-container-toolkit: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/"
        return Finding("container_toolkit", "problem", "nvidia-ctk is not installed", remedy)
    specifications = [place for place in ("etc/cdi/nvidia.yaml", "var/run/cdi/nvidia.yaml") if (root / place).exists()]
    try:
        configured = json.loads((root / "etc/docker/daemon.json").read_text(encoding="utf-8"))
        has_runtime = "nvidia" in configured["runtimes"]
    except (OSError, ValueError, KeyError, TypeError):
        has_runtime = False
    if has_runtime or specifications:
        where = "/etc/docker/daemon.json" if has_runtime else f"/{specifications[0]}"
        return Finding("container_toolkit", "ok", f"nvidia-ctk is installed, and {where} names GPUs")
    remedy = "nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"
    said = "nvidia-ctk is installed; neither Docker's configuration nor a CDI specification knows of it"
    if shutil.which("nvidia-container-runtime-hook"):  # Docker finds the hook by itself when --gpus is given
        return Finding("container_toolkit", "warning", f"{said}, only docker run --gpus finds its hook", remedy)
    return Finding("container_toolkit", "problem", said, remedy)


def _engine(subject: Subject) -> ServedEngine:
    """
    Raises:
        NotExamined: the bundle needs no GPU.
    """
    bundle = subject.opened
    if bundle.manifest.engine.target != "tensorrt_llm":
        raise NotExamined("the bundle runs on the CPU")
    return ServedEngine.read(bundle.engine_dir)


def _answering(subject: Subject) -> GpuSurvey:
    """
    Raises:
        NotExamined: no GPU answers; the check of the GPU says why.
    """
    if subject.gpus.problem is not None or not subject.gpus.gpus:
        raise NotExamined("no GPU answers")
    return subject.gpus


def _used(subject: Subject) -> tuple[Gpu, ...]:
    """The GPUs that the engine will take: the first ones of those that CUDA is left.

    Raises:
        NotExamined: none is left; the check of the GPU says why.
    """
    used = _visible(_answering(subject))[: _engine(subject).options.tensor_parallel]
    if not used:
        raise NotExamined(f"{_CHOICE} leaves no GPU")
    return used


def _visible(survey: GpuSurvey) -> tuple[Gpu, ...]:
    """The GPUs that CUDA would list, in its order; a slice that is named stands for its card.

    Like CUDA, it stops at the first entry that names nothing (CUDA C++ Programming Guide, "CUDA Environment
    Variables"). Numbers are NVML's, which are CUDA's where all cards are of one kind.
    """
    chosen = os.environ.get(_CHOICE)
    if chosen is None:
        return survey.gpus
    found: list[Gpu] = []
    for name in chosen.split(","):
        card = _chosen(survey, name.strip())
        if card is None:
            break
        found.append(card)
    return tuple(found)


def _chosen(survey: GpuSurvey, name: str) -> Gpu | None:
    for card in survey.gpus:
        if name == str(card.index) or (name.startswith("GPU-") and card.uuid.startswith(name)):
            return card
        for part in card.mig_instances:
            if name.startswith("MIG-") and part.uuid.startswith(name):
                return replace(card, mig_instances=(part,))
    return None


def _named(survey: GpuSurvey) -> str:
    if survey.problem is not None:
        return f"no GPU seen (NVML: {survey.problem.message})"
    names = [card.name for card in survey.gpus]
    told = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{told or 'no GPU'}, driver {survey.driver}"


def _memory(card: Gpu) -> int:
    """What one process can have of a card: all of it, or its largest slice."""
    return max((part.memory_bytes for part in card.mig_instances), default=card.memory_bytes)


def _free(card: Gpu) -> int:
    return card.memory_bytes if card.memory_free_bytes is None else card.memory_free_bytes


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _clocks(card: Gpu) -> str:
    told = [f"GPU {card.index}: {card.sm_clock_mhz or '?'} of {card.sm_clock_max_mhz or '?'} MHz"]
    told += [f"slowed by {', '.join(card.slowed_by)}"] if card.slowed_by else []
    told += (
        [f"{card.power_limit_w:.0f} of {card.power_default_w:.0f} W"]
        if card.power_limit_w and card.power_default_w
        else []
    )
    told += [f"{card.temperature_c} °C"] if card.temperature_c is not None else []
    told += ["persistence off"] if card.persistence is False else []
    told += ["ECC off"] if card.ecc is False else []
    return ", ".join(told)
