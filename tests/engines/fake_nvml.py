"""One typed fake of NVML, for tests: the functions of ``pynvml`` that survey and telemetry call, over a test's cards.

Errors are the real module's. `test_gpu` holds that the real module has every function of `Nvml` under the same name.
A card may change between two looks, as a real one does.
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
    used_mib: int = 0
    errors: dict[str, int] = field(default_factory=dict)


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
    busy_percent: int = 63
    memory_busy_percent: int = 41
    power_mw: int = 412_300
    memory_mhz: int = 2619
    pcie_bytes: tuple[int, int] | None = (0, 0)
    pcie_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
    pcie_kb_per_s: tuple[int, int] = (1500, 300)
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
            name = handle.card.name + (f" MIG {handle.slice.profile}" if handle.slice.named else "")
            return self._answer("nvmlDeviceGetName", lambda: name, handle.slice.errors)
        return self._answer("nvmlDeviceGetName", lambda: handle.name, handle.errors)

    def nvmlDeviceGetUUID(self, handle: Card | Part) -> str:  # noqa: N802
        if isinstance(handle, Part):
            place = handle.place
            return self._answer("nvmlDeviceGetUUID", lambda: f"MIG-{place}", handle.slice.errors)
        places = [place for place, card in enumerate(self._cards) if card is handle]
        return self._answer("nvmlDeviceGetUUID", lambda: f"GPU-{places[0]}", handle.errors)

    def nvmlDeviceGetMemoryInfo(self, handle: Card | Part) -> Any:  # noqa: N802
        if isinstance(handle, Part):
            part, mib = handle.slice, 1024**2
            total, used = part.memory_mib * mib, part.used_mib * mib
            memory = SimpleNamespace(total=total, free=total - used, used=used)
            return self._answer("nvmlDeviceGetMemoryInfo", lambda: memory, part.errors)
        memory = SimpleNamespace(total=handle.total, free=handle.free, used=handle.total - handle.free)
        return self._answer("nvmlDeviceGetMemoryInfo", lambda: memory, handle.errors)

    def nvmlDeviceGetUtilizationRates(self, handle: Card) -> Any:  # noqa: N802
        rates = SimpleNamespace(gpu=handle.busy_percent, memory=handle.memory_busy_percent)
        return self._answer("nvmlDeviceGetUtilizationRates", lambda: rates, handle.errors)

    def nvmlDeviceGetPowerUsage(self, handle: Card) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetPowerUsage", lambda: handle.power_mw, handle.errors)

    def nvmlDeviceGetFieldValues(self, handle: Card, fieldIds: Sequence[int]) -> Sequence[Any]:  # noqa: N802, N803
        """A field that a card does not have is an error of that value and not of the call."""
        counts = handle.pcie_bytes
        order = {pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES: 0, pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES: 1}
        values = [
            SimpleNamespace(
                nvmlReturn=pynvml.NVML_ERROR_NOT_SUPPORTED if counts is None else pynvml.NVML_SUCCESS,
                valueType=handle.pcie_type,
                value=SimpleNamespace(ullVal=0 if counts is None else counts[order[one]]),
            )
            for one in fieldIds
        ]
        return self._answer("nvmlDeviceGetFieldValues", lambda: values, handle.errors)

    def nvmlDeviceGetPcieThroughput(self, device: Card, counter: int) -> int:  # noqa: N802
        order = {pynvml.NVML_PCIE_UTIL_RX_BYTES: 0, pynvml.NVML_PCIE_UTIL_TX_BYTES: 1}
        rate = device.pcie_kb_per_s[order[counter]]
        return self._answer("nvmlDeviceGetPcieThroughput", lambda: rate, device.errors)

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
        facts = SimpleNamespace(gpuInstanceSliceCount=device.slice.slices, memorySizeMB=device.slice.memory_mib)
        return self._answer("nvmlDeviceGetAttributes_v2", lambda: facts, device.slice.errors)

    def nvmlDeviceGetClockInfo(self, handle: Card, type: int) -> int:  # noqa: A002, N802
        mhz = {pynvml.NVML_CLOCK_SM: handle.sm_mhz, pynvml.NVML_CLOCK_MEM: handle.memory_mhz}[type]
        return self._answer("nvmlDeviceGetClockInfo", lambda: mhz, handle.errors)

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
