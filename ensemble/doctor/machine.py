"""The machine itself: Python, CPU, memory, disk, shared memory, open files."""

import os
import resource
import shutil
import sys
from pathlib import Path

from slipstream import EnvironmentFault
from slipstream.engines.host import probe_host, require_host
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.doctor.finding import GIB, MIB, Finding, State, Subject, size
from slipstream.ensemble.doctor.limits import Limits, read_limits

PYTHON = (3, 11)
"""Triton's Python backend loads packages that were built for one Python."""
_PYTHONS_ON_GPUS = (PYTHON, (3, 12))
"""TensorRT-LLM 1.2.1 comes for 3.10 and 3.12, and NVIDIA's container has 3.12."""

_TELLING = ("avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
"""CPU features that OpenVINO's kernels use where they are there; none is needed."""
_BUILDS_BYTES = 5 * GIB
_LOGS_BYTES = 100 * MIB
_SHARED_NEEDED, _SHARED_ENOUGH = 8 * MIB, 32 * MIB
"""Each of the three models takes 1 MiB at its start and 1 MiB more whenever that is full."""
_SHARED_ON_GPUS = GIB
"""What NVIDIA starts its Triton containers with: NCCL passes tensors between GPUs through it as well."""
_FEW_FILES, _ENOUGH_FILES = 256, 1024


def python(subject: Subject) -> Finding:
    said = f"Python {sys.version.split()[0]} at {sys.executable}"
    if sys.version_info[:2] not in (_PYTHONS_ON_GPUS if _on_gpus(subject) else (PYTHON,)):
        return Finding("python", "problem", said, "use Python 3.11: make PYTHON=/path/to/python3.11")
    return Finding("python", "ok", said)


def cpu(subject: Subject) -> Finding:
    """What the active bundle's engine demands of this CPU, or what the embedded engine would."""
    host = probe_host()
    more = [name for name in _TELLING if name in host.isa]
    cores, limits = len(os.sched_getaffinity(0)), read_limits()
    granted = f", {limits.cpus:.1f} of them granted" if limits.cpus is not None and limits.cpus < cores else ""
    said = f"{host.cpu_model or host.arch}, {cores} cores{granted}; has {', '.join(more) or 'none of AVX-512 and AMX'}"
    needed = {"os": "linux", "arch": "x86_64", "isa": ["avx2", "fma"]}
    if isinstance(subject.bundle, Bundle) and subject.bundle.manifest.engine.target == "openvino":
        fingerprint = subject.bundle.manifest.engine.fingerprint
        needed = {name: fingerprint[name] for name in needed if name in fingerprint}
    require_host(needed, host)
    if limits.cpus is not None and limits.cpus < 1:
        return Finding("cpu", "warning", said, "grant the container a whole core or more: docker run --cpus 2")
    return Finding("cpu", "ok", said)


def memory(subject: Subject) -> Finding:
    """Whether what the bundle takes fits, and fits now; the limits are the container's where it has any."""
    import psutil

    found = psutil.virtual_memory()
    return weigh_memory(subject, found.total, found.available, read_limits())


def weigh_memory(subject: Subject, total: int, available: int, limits: Limits) -> Finding:
    """`memory`, for a machine with ``total`` and ``available`` bytes."""
    whose = "here"
    if limits.memory_bytes is not None and limits.memory_bytes < total:
        total, whose = limits.memory_bytes, "granted to this control group"
        available = min(available, max(0, total - (limits.memory_used_bytes or 0)))
    if not isinstance(subject.bundle, Bundle):
        return Finding("memory", "ok", f"{size(total)} {whose}, {size(available)} of it free")
    needed, parts = _needed(subject.bundle)
    said = f"{size(needed)} needed ({parts}); {size(total)} {whose}, {size(available)} of it free"
    if total < needed:
        return Finding("memory", "problem", said, "give it more memory, or build with a smaller serving.kv_cache_bytes")
    if available < needed and subject.server is None:
        return Finding("memory", "warning", said, "stop what else needs memory, or serve on another machine")
    return Finding("memory", "ok", said)


_PROCESSES_BYTES = 600 * MIB
"""Triton, its three models, the engine's process and the facade, beside weights and KV cache: with the default bundle
of 126 MiB the proportional set size of all of them was 692 MiB before the first request."""


def _needed(bundle: Bundle) -> tuple[int, str]:
    """Bytes of memory that serving takes, and what they are made of."""
    weights = sum(file.size_bytes for file in bundle.manifest.files)
    kv = bundle.manifest.serving.kv_cache_bytes if bundle.manifest.engine.target == "openvino" else 0
    parts = f"weights {size(weights)}, {f'KV cache {size(kv)}, ' if kv else ''}processes {size(_PROCESSES_BYTES)}"
    return weights + kv + _PROCESSES_BYTES, parts


def disk(subject: Subject) -> Finding:
    """Room below ``SLIPSTREAM_HOME``, which need not exist yet, and leave to write where a server does."""
    home, written = subject.settings.root, subject.settings.repository_dir
    place = next(path for path in (written, *written.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise EnvironmentFault(
            f"{place} cannot be written to by this user", "make it writable, or choose another: SLIPSTREAM_HOME=..."
        )
    free = shutil.disk_usage(place).free
    said = f"{size(free)} free in " + (str(home) if home.exists() else f"{place}, where {home} will be made")
    if free < _LOGS_BYTES:
        return Finding("disk", "problem", said, "free some space: a server keeps its logs and its repository there")
    if free < _BUILDS_BYTES:
        return Finding("disk", "warning", said, f"a build of the default recipe wants {size(_BUILDS_BYTES)}")
    return Finding("disk", "ok", said)


def shared_memory(subject: Subject) -> Finding:
    """Triton's Python backend passes every tensor through it."""
    return weigh_shared_memory(Path("/dev/shm"), _SHARED_ON_GPUS if _on_gpus(subject) else _SHARED_ENOUGH)  # noqa: S108


def _on_gpus(subject: Subject) -> bool:
    return isinstance(subject.bundle, Bundle) and subject.bundle.manifest.engine.target == "tensorrt_llm"


def weigh_shared_memory(place: Path, enough: int) -> Finding:
    """`shared_memory`, of ``place``; less than ``enough`` bytes is worth a warning."""
    remedy = "docker run --shm-size=1g, or mount a tmpfs there: mount -t tmpfs -o size=1g shm /dev/shm"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("shared_memory", "problem", f"{place} is no folder that can be written to", remedy)
    found = shutil.disk_usage(place)
    said = f"{place} has {size(found.total)}, {size(found.free)} of it free"
    if found.free < _SHARED_NEEDED:
        return Finding("shared_memory", "problem", said, remedy)
    if found.free < enough:
        return Finding("shared_memory", "warning", f"{said}; {size(enough)} are comfortable", remedy)
    return Finding("shared_memory", "ok", said)


def open_files(subject: Subject) -> Finding:
    """Every open stream is a file of the facade and one of Triton's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{_count(soft)} files may be open at once ({_count(hard)} at most)"
    if 0 <= soft < _ENOUGH_FILES:
        state: State = "problem" if soft < _FEW_FILES else "warning"
        return Finding("open_files", state, said, f"ulimit -n {_ENOUGH_FILES}, or docker run --ulimit nofile=65536")
    return Finding("open_files", "ok", said)


def _count(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def cpu_frequency(subject: Subject) -> Finding:
    """A governor that saves power keeps cores slow for the milliseconds that a token takes."""
    return read_governor(Path("/sys/devices/system/cpu"))


def read_governor(cpus: Path) -> Finding:
    names = {path.read_text().strip() for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not names:
        return Finding("cpu_frequency", "skipped", "the kernel tells no frequency governor (a virtual machine?)")
    drivers = {path.read_text().strip() for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_driver")}
    said = f"governor {', '.join(sorted(names))}, driver {', '.join(sorted(drivers)) or 'unknown'}"
    # Drivers that leave the frequency to the hardware call their ordinary mode powersave.
    saves = "powersave" in names and not drivers & {"intel_pstate", "amd-pstate-epp"}
    if saves:
        return Finding("cpu_frequency", "warning", said, "cpupower frequency-set -g performance")
    return Finding("cpu_frequency", "ok", said)
