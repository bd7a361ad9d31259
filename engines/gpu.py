"""What NVIDIA GPUs this machine has, as the driver tells it through NVML. Starts nothing and changes nothing.

NVML (``libnvidia-ml.so.1``) comes with the driver; ``nvidia-ml-py`` binds it. A machine without either is no
error here: `GpuSurvey.problem` says what is missing, and `GpuSurvey.faults` which GPU did not answer.
Units and meaning of every value: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

from slipstream.profiling.telemetry.nvml import MIB, mig_parts, slowed_by, told
from slipstream.profiling.telemetry.nvml import Nvml as TelemetryNvml

T = TypeVar("T")

Reason = Literal["no_binding", "no_library", "no_driver", "no_permission", "version_mismatch", "failed"]

_REASONS: dict[str, Reason] = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "no_library",
    "NVML_ERROR_DRIVER_NOT_LOADED": "no_driver",
    "NVML_ERROR_NO_PERMISSION": "no_permission",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "version_mismatch",
}


class Nvml(TelemetryNvml, Protocol):
    """The functions of ``pynvml`` that `probe_gpus` calls beside telemetry's."""

    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802  NVML's names
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxClockInfo(self, handle: Any, type: int) -> int: ...  # noqa: A002, N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetPersistenceMode(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentEccMode(self, handle: Any) -> int: ...  # noqa: N802


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One slice of a GPU, such as ``1g.10gb``."""

    profile: str
    uuid: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. What the card, the driver or a container does not tell is None; ``slowed_by`` is empty for none.

    Only administrators may see the memory of a GPU that is cut into slices; to others it is what the slices sum to.
    """

    index: int
    name: str
    uuid: str
    memory_bytes: int
    memory_free_bytes: int | None
    compute_capability: tuple[int, int]
    mig: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    slowed_by: tuple[str, ...] = ()
    temperature_c: int | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    persistence: bool | None = None
    ecc: bool | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why NVML could not be asked, in its words."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A GPU that is there and did not answer, such as one that fell off the bus."""

    index: int
    message: str


@dataclass(frozen=True, slots=True)
class GpuSurvey:
    """Every GPU that answered. ``driver`` is like ``580.65.06``; ``cuda`` the newest CUDA that driver runs, (13, 0)."""

    gpus: tuple[Gpu, ...] = ()
    faults: tuple[GpuFault, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] | None = None
    problem: Problem | None = None


def probe_gpus(nvml: Nvml | None = None) -> GpuSurvey:
    """Ask the driver; takes some 10 ms, or a second on a machine without persistence mode. Never raises."""
    if nvml is None:
        try:
            import pynvml
        except ImportError as error:
            return GpuSurvey(problem=Problem("no_binding", f"nvidia-ml-py is not installed ({error})"))
        nvml = cast("Nvml", pynvml)
    try:
        nvml.nvmlInit()
        try:
            return _survey(nvml)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        return GpuSurvey(problem=_problem(error))


def _survey(nvml: Nvml) -> GpuSurvey:
    driver = nvml.nvmlSystemGetDriverVersion()
    cuda = told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    gpus, faults = [], []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(nvml, index))
        except nvml.NVMLError as error:
            faults.append(GpuFault(index, str(error)))
    version = None if cuda is None else (cuda // 1000, cuda % 1000 // 10)
    return GpuSurvey(tuple(gpus), tuple(faults), driver, version)


def _gpu(nvml: Nvml, index: int) -> Gpu:
    import pynvml

    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: Callable[..., T], *more: int) -> T | None:
        return told(nvml, function, handle, *more)

    memory = ask(nvml.nvmlDeviceGetMemoryInfo)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    mig = ask(nvml.nvmlDeviceGetMigMode)
    parts = mig_parts(nvml, handle) if mig and mig[0] else ()
    slices = tuple(MigInstance(part.profile, part.uuid, part.memory_bytes) for part in parts)
    limit, usual = ask(nvml.nvmlDeviceGetEnforcedPowerLimit), ask(nvml.nvmlDeviceGetPowerManagementDefaultLimit)
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle),
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory_bytes=int(memory.total) if memory else sum(part.memory_bytes for part in slices),
        memory_free_bytes=int(memory.free) if memory else None,
        compute_capability=(major, minor),
        mig=_yes(mig and mig[0]),
        mig_instances=slices,
        sm_clock_mhz=ask(nvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
        sm_clock_max_mhz=ask(nvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM),
        slowed_by=slowed_by(nvml, handle) or (),
        temperature_c=ask(nvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        power_limit_w=None if limit is None else limit / 1000,
        power_default_w=None if usual is None else usual / 1000,
        persistence=_yes(ask(nvml.nvmlDeviceGetPersistenceMode)),
        ecc=_yes(ask(nvml.nvmlDeviceGetCurrentEccMode)),
    )


def _yes(state: Any) -> bool | None:
    return None if state is None else bool(state)


def _problem(error: Exception) -> Problem:
    import pynvml

    reasons = {getattr(pynvml, name): reason for name, reason in _REASONS.items()}
    return Problem(reasons.get(getattr(error, "value", None), "failed"), str(error))


__all__ = ["MIB", "Gpu", "GpuFault", "GpuSurvey", "MigInstance", "Nvml", "Problem", "Reason", "probe_gpus"]
