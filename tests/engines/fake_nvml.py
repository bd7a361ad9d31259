"""One typed fake of NVML, for tests: the functions of ``pynvml`` that the survey calls, over cards of a test's.

Errors are the real module's. `test_gpu` holds that the real module has every function of `Nvml` under the same name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import pynvml

GIB = 1024**3

T = TypeVar("T")


@dataclass
class Slice:
    """A MIG device. ``named`` says whether the driver puts the profile into its name."""

    slices: int
    memory_mib: int
    profile: str
    named: bool = True


@dataclass
class Card:
    """A GPU as its driver describes it; ``errors`` maps a function's name to the NVML error that it ends with."""

    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GIB
    free: int = 79 * GIB
    capability: tuple[int, int] = (9, 0)
    slices: Sequence[Slice | None] | None = None
    reasons: int = 0
    sm_mhz: int = 1980
    limit_mw: int = 700_000
    default_mw: int = 700_000
    persistence: int = 1
    ecc: int = 1
    errors: dict[str, int] = field(default_factory=dict)


@dataclass
class Part:
    """The handle of a MIG device."""

    card: Card
    slice: Slice
    place: int


class FakeNvml:
    """`slipstream.engines.gpu.Nvml`; ``errors`` of the library as a whole beside those of the cards."""

    NVMLError: type[Exception] = pynvml.NVMLError

    def __init__(
        self, *cards: Card, driver: str = "580.65.06", cuda: int = 13000, errors: dict[str, int] | None = None
    ) -> None:
        self._cards, self._driver, self._cuda, self._errors = cards, driver, cuda, errors or {}
        self.open = 0

    def _answer(self, name: str, value: Callable[[], T], errors: dict[str, int] | None = None) -> T:
        failed = (self._errors if errors is None else errors).get(name)
        if failed is not None:
            raise pynvml.NVMLError(failed)
        return value()

    def nvmlInit(self) -> None:  # noqa: N802
        self._answer("nvmlInit", lambda: None)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1
        self._answer("nvmlShutdown", lambda: None)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self._answer("nvmlSystemGetDriverVersion", lambda: self._driver)

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return self._answer("nvmlSystemGetCudaDriverVersion_v2", lambda: self._cuda)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetCount", lambda: len(self._cards))

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        card = self._cards[index]
        return self._answer("nvmlDeviceGetHandleByIndex", lambda: card, card.errors)

    def nvmlDeviceGetName(self, handle: Card | Part) -> str:  # noqa: N802
        if isinstance(handle, Part):
            return handle.card.name + (f" MIG {handle.slice.profile}" if handle.slice.named else "")
        return self._answer("nvmlDeviceGetName", lambda: handle.name, handle.errors)

    def nvmlDeviceGetUUID(self, handle: Card | Part) -> str:  # noqa: N802
        return f"MIG-{handle.place}" if isinstance(handle, Part) else f"GPU-{self._cards.index(handle)}"

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> Any:  # noqa: N802
        return self._answer(
            "nvmlDeviceGetMemoryInfo", lambda: SimpleNamespace(total=handle.total, free=handle.free), handle.errors
        )

    def nvmlDeviceGetCudaComputeCapability(self, handle: Card) -> Sequence[int]:  # noqa: N802
        return self._answer("nvmlDeviceGetCudaComputeCapability", lambda: handle.capability, handle.errors)

    def nvmlDeviceGetMigMode(self, handle: Card) -> Sequence[int]:  # noqa: N802
        mode = int(handle.slices is not None)
        return self._answer("nvmlDeviceGetMigMode", lambda: [mode, mode], handle.errors)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetMaxMigDeviceCount", lambda: len(handle.slices or ()), handle.errors)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Card, index: int) -> Part:  # noqa: N802
        found = (device.slices or ())[index]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return Part(device, found, index)

    def nvmlDeviceGetAttributes_v2(self, device: Part) -> Any:  # noqa: N802
        return SimpleNamespace(gpuInstanceSliceCount=device.slice.slices, memorySizeMB=device.slice.memory_mib)

    def nvmlDeviceGetClockInfo(self, handle: Card, type: int) -> int:  # noqa: A002, N802
        return self._answer("nvmlDeviceGetClockInfo", lambda: handle.sm_mhz, handle.errors)

    def nvmlDeviceGetMaxClockInfo(self, handle: Card, type: int) -> int:  # noqa: A002, N802
        return self._answer("nvmlDeviceGetMaxClockInfo", lambda: 1980, handle.errors)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", lambda: handle.reasons, handle.errors)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", lambda: handle.reasons, handle.errors)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetEnforcedPowerLimit", lambda: handle.limit_mw, handle.errors)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetPowerManagementDefaultLimit", lambda: handle.default_mw, handle.errors)

    def nvmlDeviceGetPersistenceMode(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetPersistenceMode", lambda: handle.persistence, handle.errors)

    def nvmlDeviceGetCurrentEccMode(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetCurrentEccMode", lambda: handle.ecc, handle.errors)

    def nvmlDeviceGetTemperature(self, handle: Card, sensor: int) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetTemperature", lambda: 45, handle.errors)
