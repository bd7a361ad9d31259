"""NVML as this project asks it: what may be missing from an answer, MIG instances, and what holds clocks down.

NVML (``libnvidia-ml.so.1``) comes with the driver; ``nvidia-ml-py`` binds it as the module ``pynvml``.
Units and meaning of every value: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

MIB = 1024**2

T = TypeVar("T")

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
SLOWDOWNS = tuple(_SLOWDOWNS.values())


class Nvml(Protocol):
    """The functions of ``pynvml`` that telemetry calls; a test holds that the real module has each of them."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802  NVML's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Any) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any: ...  # noqa: N802
    def nvmlDeviceGetAttributes_v2(self, device: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetClockInfo(self, handle: Any, type: int) -> int: ...  # noqa: A002, N802
    def nvmlDeviceGetFieldValues(self, handle: Any, fieldIds: Sequence[int]) -> Sequence[Any]: ...  # noqa: N802, N803
    def nvmlDeviceGetPcieThroughput(self, device: Any, counter: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int: ...  # noqa: N802
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int: ...  # noqa: N802


@dataclass(frozen=True, slots=True)
class MigPart:
    """A slice of a card. ``profile`` is like ``1g.10gb``; ``handle`` is NVML's."""

    profile: str
    uuid: str
    memory_bytes: int
    handle: Any


def told(nvml: Nvml, function: Callable[..., T], *arguments: Any) -> T | None:
    """What ``function`` says, or None where this card, driver or container does not tell.

    Raises:
        NVMLError: the card is there and fails, such as one that fell off the bus.
    """
    import pynvml

    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in {getattr(pynvml, name) for name in _UNTOLD}:
            return None
        raise


def mig_parts(nvml: Nvml, card: Any) -> list[MigPart]:
    """The slices that ``card``, whose MIG mode is on, is cut into, as far as they may be asked; places may be empty.

    Raises:
        NVMLError: as `told`.
    """
    places = range(told(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, card) or 0)
    handles = (told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, card, place) for place in places)
    parts = (_part(nvml, handle) for handle in handles if handle is not None)
    return [part for part in parts if part is not None]


def _part(nvml: Nvml, handle: Any) -> MigPart | None:
    """None for one that may not be asked, as in a container that was given another: it hides nothing else."""
    facts, uuid = told(nvml, nvml.nvmlDeviceGetAttributes_v2, handle), told(nvml, nvml.nvmlDeviceGetUUID, handle)
    if facts is None or uuid is None:
        return None
    name = told(nvml, nvml.nvmlDeviceGetName, handle) or ""
    return MigPart(_profile(name, facts), uuid, int(facts.memorySizeMB) * MIB, handle)


def _profile(name: str, facts: Any) -> str:
    """``NVIDIA H100 80GB HBM3 MIG 1g.10gb`` ends with the profile; a driver that leaves it out still tells the size."""
    named = re.search(r"MIG (\S+)", name)
    return named[1] if named else f"{facts.gpuInstanceSliceCount}g.{-(-int(facts.memorySizeMB) // 1024)}gb"


def slowed_by(nvml: Nvml, card: Any) -> tuple[str, ...] | None:
    """What holds the clocks of ``card`` down, of `SLOWDOWNS`; None where it does not tell.

    Raises:
        NVMLError: as `told`.
    """
    import pynvml

    bits = told(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, card)
    if bits is None:  # drivers before 535 know it by its older name
        bits = told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, card)
    return None if bits is None else tuple(said for name, said in _SLOWDOWNS.items() if bits & getattr(pynvml, name))


__all__ = ["MIB", "SLOWDOWNS", "MigPart", "Nvml", "mig_parts", "slowed_by", "told"]
