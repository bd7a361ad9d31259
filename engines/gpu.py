"""What NVIDIA GPUs this machine has, as the driver tells it through NVML. Starts nothing and changes nothing.

NVML (``libnvidia-ml.so.1``) comes with the driver; ``nvidia-ml-py`` binds it. A machine without either is no
error here: `GpuSurvey.problem` says what is missing, and `GpuSurvey.faults` which GPU did not answer.
Units and meaning of every value: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

MIB = 1024**2

T = TypeVar("T")

Reason = Literal["no_binding", "no_library", "no_driver", "no_permission", "version_mismatch", "failed"]

_REASONS: dict[str, Reason] = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "no_library",
    "NVML_ERROR_DRIVER_NOT_LOADED": "no_driver",
    "NVML_ERROR_NO_PERMISSION": "no_permission",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "version_mismatch",
}
# A card that has no such feature, a container that may not see it, a driver that is older than the question.
_UNTOLD = (
    "NVML_ERROR_NOT_SUPPORTED",
    "NVML_ERROR_NO_PERMISSION",
    "NVML_ERROR_FUNCTION_NOT_FOUND",
    "NVML_ERROR_NOT_FOUND",
    "NVML_ERROR_INVALID_ARGUMENT",
    "NVML_ERROR_NO_DATA",
    "NVML_ERROR_DEPRECATED",
)
# What makes a GPU slower than its clocks promise. An idle one, an application's wish and a display are no such reason.
_SLOWDOWNS = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal (software)",
    "nvmlClocksEventReasonHwThermalSlowdown": "thermal (hardware)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}


class Nvml(Protocol):
    """The functions of ``pynvml`` that `probe_gpus` calls; a test holds that the real module has each of them."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802  NVML's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetAttributes_v2(self, device: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetClockInfo(self, handle: Any, type: int) -> int: ...  # noqa: A002, N802
    def nvmlDeviceGetMaxClockInfo(self, handle: Any, type: int) -> int: ...  # noqa: A002, N802
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetPersistenceMode(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentEccMode(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...  # noqa: N802


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
    cuda = _told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
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
        return _told(nvml, function, handle, *more)

    memory = ask(nvml.nvmlDeviceGetMemoryInfo)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    mig = ask(nvml.nvmlDeviceGetMigMode)
    slices = _mig_instances(nvml, handle) if mig and mig[0] else ()
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
        slowed_by=_slowed_by(nvml, handle),
        temperature_c=ask(nvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        power_limit_w=None if limit is None else limit / 1000,
        power_default_w=None if usual is None else usual / 1000,
        persistence=_yes(ask(nvml.nvmlDeviceGetPersistenceMode)),
        ecc=_yes(ask(nvml.nvmlDeviceGetCurrentEccMode)),
    )


def _mig_instances(nvml: Nvml, handle: Any) -> tuple[MigInstance, ...]:
    """The slices that exist; their places need not be consecutive."""
    found = []
    for place in range(_told(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        slice_ = _told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
        if slice_ is not None:
            facts = nvml.nvmlDeviceGetAttributes_v2(slice_)
            profile = _profile(nvml.nvmlDeviceGetName(slice_), facts)
            found.append(MigInstance(profile, nvml.nvmlDeviceGetUUID(slice_), int(facts.memorySizeMB) * MIB))
    return tuple(found)


def _profile(name: str, facts: Any) -> str:
    """``NVIDIA H100 80GB HBM3 MIG 1g.10gb`` ends with the profile; a driver that leaves it out still tells the size."""
    named = re.search(r"MIG (\S+)", name)
    return named[1] if named else f"{facts.gpuInstanceSliceCount}g.{-(-int(facts.memorySizeMB) // 1024)}gb"


def _slowed_by(nvml: Nvml, handle: Any) -> tuple[str, ...]:
    import pynvml

    bits = _told(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:  # drivers before 535 know it by its older name
        bits = _told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return tuple(said for name, said in _SLOWDOWNS.items() if (bits or 0) & getattr(pynvml, name))


def _told(nvml: Nvml, function: Callable[..., T], *arguments: Any) -> T | None:
    """What ``function`` says, or None where this card, driver or container does not tell."""
    import pynvml

    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in {getattr(pynvml, name) for name in _UNTOLD}:
            return None
        raise


def _yes(state: Any) -> bool | None:
    return None if state is None else bool(state)


def _problem(error: Exception) -> Problem:
    import pynvml

    reasons = {getattr(pynvml, name): reason for name, reason in _REASONS.items()}
    return Problem(reasons.get(getattr(error, "value", None), "failed"), str(error))
