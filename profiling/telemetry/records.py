"""One look at a machine: plain records, as they stand in ``telemetry.jsonl`` and as a report draws them.

None is what was not told, by a card, a driver, a container or the system; it is never written as 0.
"""

from dataclasses import dataclass

LOAD_GENERATOR = "load generator"
"""The role of the processes that send a load; `processes` names the others."""
CPU_ENGINE = "engine"
"""The role of a process that computes on the CPU; an engine on a GPU has none of its own."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a server or of a load generator.

    Attributes:
        role: such as ``facade``, ``triton``, ``retriever`` or ``engine``; `processes` says which there are.
        cpu_share: of one core since the look before; 2.0 is two busy cores.
        resident_bytes: pages that are shared with other processes count in each of them.
    """

    role: str
    pid: int
    cpu_share: float | None = None
    resident_bytes: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it. Meaning and units: NVML API reference, Device Queries.

    Attributes:
        index: NVML's, of the card; its instances have the same.
        uuid: ``GPU-...`` or ``MIG-...``; empty where the card did not even tell that.
        mig: the profile of an instance, such as ``1g.10gb``; empty for a card.
        busy_share: of the time in which a kernel ran. NVML offers none for MIG instances nor for a card that has them.
        memory_busy_share: of the time in which device memory was read or written.
        memory_bytes: in use.
        pcie_rx_bytes_per_s: received by the card; ``tx`` is sent by it. Instances have none of their own, and neither
            power nor clocks.
        slowed_by: what holds its clocks down, such as ``power cap``; empty for nothing.
        fault: what the driver said of a card that is there and does not answer.
    """

    index: int
    uuid: str = ""
    mig: str = ""
    busy_share: float | None = None
    memory_busy_share: float | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    sm_clock_hz: int | None = None
    memory_clock_hz: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    slowed_by: tuple[str, ...] | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One look at a machine; shares and rates are since the look before.

    Attributes:
        t_s: in a file ``time.perf_counter`` (on Linux the monotonic clock that all processes share), as read again
            seconds after the start of the run.
        cpu_share: of all cores, 0..1; ``busiest_core_share`` of that core which was busiest.
        memory_bytes: in use, of ``memory_total_bytes``.
        context_switches_per_s: of the whole machine.
        generator_cpu_share: of one core, the busiest of the processes that send the load.
    """

    t_s: float
    cpu_share: float | None = None
    busiest_core_share: float | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None
    context_switches_per_s: float | None = None
    generator_cpu_share: float | None = None
    processes: tuple[Process, ...] = ()
    gpus: tuple[Gpu, ...] = ()


__all__ = ["CPU_ENGINE", "LOAD_GENERATOR", "Gpu", "Process", "Telemetry"]
