"""What every GPU does, by NVML: cards, and after each card its MIG instances."""

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeVar, cast

from slipstream.profiling.telemetry.nvml import MigPart, Nvml, mig_parts, slowed_by, told
from slipstream.profiling.telemetry.records import Gpu

T = TypeVar("T")

_PCIE_KB = 1000  # `nvmlDeviceGetPcieThroughput` says KB/s


class Gpus:
    """Opens NVML once; without a driver, or leave to use it, there are no GPUs.

    Args:
        nvml: in place of ``pynvml``, for tests.
    """

    def __init__(self, nvml: Nvml | None = None) -> None:
        self._nvml: Nvml | None = None
        self._cards: list[_Card] = []
        if nvml is None:
            try:
                import pynvml
            except ImportError:
                return
            nvml = cast("Nvml", pynvml)
        with suppress(nvml.NVMLError):
            nvml.nvmlInit()
            self._nvml = nvml
            self._cards = [_Card(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]

    def look(self) -> tuple[Gpu, ...]:
        """Each card and each MIG instance, in the same order every time; never raises."""
        return tuple(gpu for card in self._cards for gpu in card.look())

    def close(self) -> None:
        """NVML may be opened again by others; it counts."""
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


class _Card:
    """One card. What it is gets asked once; a card that was lost then, or later, is asked again at every look."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml, self._index = nvml, index
        self._handle: Any = None
        self._uuid = ""
        self._is_cut = False
        self._parts: list[MigPart] = []
        self._pcie: _PcieCounters | _PcieThroughput | None = None

    def look(self) -> list[Gpu]:
        try:
            if self._pcie is None:
                self._open()
            card = self._card()
        except self._nvml.NVMLError as error:
            card = Gpu(self._index, self._uuid, fault=str(error))
        return [card, *(self._part(part) for part in self._parts)]

    def _open(self) -> None:
        nvml = self._nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(self._index)
        self._uuid = nvml.nvmlDeviceGetUUID(self._handle)
        mode = self._ask(nvml.nvmlDeviceGetMigMode)
        self._is_cut = bool(mode and mode[0])
        self._parts = mig_parts(nvml, self._handle) if self._is_cut else []
        counters = _PcieCounters(nvml, self._handle)
        self._pcie = counters if counters.are_told() else _PcieThroughput(nvml, self._handle)

    def _ask(self, function: Callable[..., T], *more: int) -> T | None:
        return told(self._nvml, function, self._handle, *more)

    def _card(self) -> Gpu:
        import pynvml

        nvml = self._nvml
        # NVML has no rates for a card that is cut, and a driver's 0 would read as idle.
        busy = None if self._is_cut else self._ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        received, sent = (None, None) if self._pcie is None else self._pcie.look()
        return Gpu(
            index=self._index,
            uuid=self._uuid,
            busy_share=None if busy is None else busy.gpu / 100,
            memory_busy_share=None if busy is None else busy.memory / 100,
            memory_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            sm_clock_hz=_hz(self._ask(nvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM)),
            memory_clock_hz=_hz(self._ask(nvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM)),
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
            pcie_rx_bytes_per_s=received,
            pcie_tx_bytes_per_s=sent,
            slowed_by=slowed_by(nvml, self._handle),
        )

    def _part(self, part: MigPart) -> Gpu:
        """NVML tells memory alone of an instance; its power, clocks and PCIe are the card's."""
        try:
            memory = told(self._nvml, self._nvml.nvmlDeviceGetMemoryInfo, part.handle)
        except self._nvml.NVMLError as error:
            return Gpu(self._index, part.uuid, part.profile, fault=str(error))
        return Gpu(
            self._index,
            part.uuid,
            part.profile,
            memory_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=part.memory_bytes if memory is None else int(memory.total),
        )


class _PcieCounters:
    """Bytes that a card received and sent since some moment; a look takes less than a millisecond of the driver.

    NVML says that they can wrap and not where. One of 32 bits does so within 0.1 s at the 50 GB/s of PCIe 5, so only
    wider ones are used, and a look in which one went back says nothing.
    """

    def __init__(self, nvml: Nvml, card: Any) -> None:
        self._nvml, self._card = nvml, card
        self._last: tuple[float, tuple[int, int]] | None = None

    def are_told(self) -> bool:
        """The first look, which later ones count from."""
        counts = self._counts()
        self._last = None if counts is None else (perf_counter(), counts)
        return counts is not None

    def look(self) -> tuple[float | None, float | None]:
        """Received and sent since the last look, bytes per second."""
        counts, at = self._counts(), perf_counter()
        last, self._last = self._last, None if counts is None else (at, counts)
        if last is None or counts is None or at <= last[0]:
            return None, None
        received, sent = (
            (now - before) / (at - last[0]) if now >= before else None
            for now, before in zip(counts, last[1], strict=True)
        )
        return received, sent

    def _counts(self) -> tuple[int, int] | None:
        import pynvml

        wide = {pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG}
        fields = [pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES]
        values = told(self._nvml, self._nvml.nvmlDeviceGetFieldValues, self._card, fields)
        if values is None or any(one.nvmlReturn != pynvml.NVML_SUCCESS or one.valueType not in wide for one in values):
            return None
        received, sent = (int(one.value.ullVal) for one in values)
        return received, sent


class _PcieThroughput:
    """For drivers without such counters: each direction is watched for 20 ms, in which the caller waits."""

    def __init__(self, nvml: Nvml, card: Any) -> None:
        self._nvml, self._card = nvml, card

    def look(self) -> tuple[float | None, float | None]:
        """Received and sent, bytes per second."""
        import pynvml

        received, sent = (
            told(self._nvml, self._nvml.nvmlDeviceGetPcieThroughput, self._card, counter)
            for counter in (pynvml.NVML_PCIE_UTIL_RX_BYTES, pynvml.NVML_PCIE_UTIL_TX_BYTES)
        )
        return (
            None if received is None else float(received * _PCIE_KB),
            None if sent is None else float(sent * _PCIE_KB),
        )


def _hz(mhz: int | None) -> int | None:
    return None if mhz is None else mhz * 1_000_000


__all__ = ["Gpus"]
