"""What `/metrics` says of the server's processes, of this machine and of its GPUs, read when it is asked for."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from slipstream.profiling.telemetry.gpus import Gpus
from slipstream.profiling.telemetry.machine import memory, read_counters
from slipstream.profiling.telemetry.nvml import SLOWDOWNS
from slipstream.profiling.telemetry.processes import Processes
from slipstream.profiling.telemetry.records import Gpu

log = structlog.get_logger(__name__)

_KEPT_S = 1.0  # several scrapers at once cost as much as one
_GPU_LABELS = ("gpu", "uuid", "mig")
# Of a GPU's record, by field. What a card does not tell has no sample.
_GPU_GAUGES = {
    "busy_share": ("utilization_ratio", "Share of the time in which a kernel ran."),
    "memory_busy_share": ("memory_utilization_ratio", "Share of the time in which device memory was accessed."),
    "memory_bytes": ("memory_used_bytes", "Device memory in use."),
    "memory_total_bytes": ("memory_size_bytes", "Device memory."),
    "sm_clock_hz": ("sm_clock_hertz", "Clock of the multiprocessors."),
    "memory_clock_hz": ("memory_clock_hertz", "Clock of the device memory."),
    "power_w": ("power_watts", "Power that the card draws."),
    "temperature_c": ("temperature_celsius", "Temperature of the card."),
    "pcie_rx_bytes_per_s": ("pcie_receive_bytes_per_second", "Bytes that the card received since the last scrape."),
    "pcie_tx_bytes_per_s": ("pcie_transmit_bytes_per_second", "Bytes that the card sent since the last scrape."),
}


class MachineCollector(Collector):
    """Three sources; what one of them fails at is missing from the scrape, and the log says so once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes = Processes({os.getpid(): "facade"})
        self._gpus: Gpus | None = None
        self._families: list[Metric] = []
        self._read_s = float("-inf")
        self._failed: set[str] = set()

    def collect(self) -> list[Metric]:
        """Takes some milliseconds, with an old NVIDIA driver 40 for each card: not for an event loop."""
        with self._lock:
            if monotonic() - self._read_s >= _KEPT_S:
                sources = (self._of_processes, _of_machine, self._of_gpus)
                self._families = [family for source in sources for family in self._told(source)]
                self._read_s = monotonic()
            return self._families

    def _told(self, source: Callable[[], Iterator[Metric]]) -> Iterator[Metric]:
        try:
            yield from (family for family in source() if family.samples)
        except Exception as error:
            if source.__name__ not in self._failed:
                self._failed.add(source.__name__)
                log.warning("metrics.source_failed", source=source.__name__.removeprefix("_of_"), reason=repr(error))

    def _of_processes(self) -> Iterator[Metric]:
        resident: Counter[str] = Counter()
        threads: Counter[str] = Counter()
        for process in self._processes.look():
            if process.resident_bytes is not None and process.threads is not None:
                resident[process.role] += process.resident_bytes
                threads[process.role] += process.threads
        spent = CounterMetricFamily(
            "slipstream_process_cpu_seconds", "Processor time of the server's processes.", labels=["process"]
        )
        for role, seconds in self._processes.cpu_s.items():
            spent.add_metric([role], seconds)
        yield spent
        yield _gauge("process_resident_bytes", "Memory; pages that processes share count in each.", resident)
        yield _gauge("process_threads", "Threads of the server's processes.", threads)

    def _of_gpus(self) -> Iterator[Metric]:
        if self._gpus is None:
            self._gpus = Gpus()
        looks = self._gpus.look()
        for field, (name, text) in _GPU_GAUGES.items():
            family = GaugeMetricFamily(f"slipstream_gpu_{name}", text, labels=_GPU_LABELS)
            for gpu in looks:
                value = getattr(gpu, field)
                if value is not None:
                    family.add_metric(_labels(gpu), value)
            yield family
        slowed = GaugeMetricFamily(
            "slipstream_gpu_slowed", "1 while the reason holds the card's clocks down.", labels=(*_GPU_LABELS, "reason")
        )
        for gpu in looks:
            for reason in SLOWDOWNS if gpu.slowed_by is not None else ():
                slowed.add_metric([*_labels(gpu), reason], reason in (gpu.slowed_by or ()))
        yield slowed


def _of_machine() -> Iterator[Metric]:
    counters = read_counters()
    busy = CounterMetricFamily(
        "slipstream_machine_cpu_busy_seconds", "Time that a core was busy, with any program.", labels=["core"]
    )
    for core, seconds in enumerate(counters.busy_s):
        busy.add_metric([str(core)], seconds)
    yield busy
    switches = counters.context_switches
    yield CounterMetricFamily("slipstream_machine_context_switches", "Of the whole machine.", value=switches)
    used, total = memory()
    yield GaugeMetricFamily("slipstream_machine_memory_used_bytes", "Memory in use, by any program.", value=used)
    yield GaugeMetricFamily("slipstream_machine_memory_size_bytes", "Memory of the machine.", value=total)


def _gauge(name: str, text: str, values: Counter[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"slipstream_{name}", text, labels=["process"])
    for role, value in values.items():
        family.add_metric([role], value)
    return family


def _labels(gpu: Gpu) -> list[str]:
    return [str(gpu.index), gpu.uuid, gpu.mig]


__all__ = ["MachineCollector"]
