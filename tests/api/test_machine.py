"""What a scrape says of processes, machine and GPUs, and that none of them can fail it."""

import os

import httpx
import psutil
import pynvml
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from slipstream.api import machine
from slipstream.api.machine import MachineCollector
from slipstream.profiling.telemetry.gpus import Gpus
from tests.engines.fake_nvml import GIB, Card, FakeNvml, Slice

LABELS = ("process", "core", "gpu", "uuid", "mig", "reason")
NO_GPU = FakeNvml(errors={"nvmlInit": pynvml.NVML_ERROR_DRIVER_NOT_LOADED})


@pytest.fixture(autouse=True)
def nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, NO_GPU)


def cards(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> None:
    monkeypatch.setattr(machine, "Gpus", lambda: Gpus(nvml))


async def scrape(client: httpx.AsyncClient) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and by the values of the labels, in the order of `LABELS`."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in LABELS if name in sample.labels)
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def test_processes_and_machine_are_told_in_base_units(client: httpx.AsyncClient) -> None:
    told, process = await scrape(client), psutil.Process()
    spent = process.cpu_times()
    assert told["slipstream_process_cpu_seconds_total"]["facade",] == pytest.approx(spent.user + spent.system, rel=0.2)
    assert told["slipstream_process_resident_bytes"]["facade",] >= process.memory_info().rss * 0.8
    assert told["slipstream_process_threads"]["facade",] >= 1
    assert len(told["slipstream_machine_cpu_busy_seconds_total"]) == os.cpu_count()
    assert told["slipstream_machine_context_switches_total"][()] > 1000
    used, size = (told[f"slipstream_machine_memory_{name}_bytes"][()] for name in ("used", "size"))
    assert 0 < used < size == psutil.virtual_memory().total


async def test_a_machine_without_gpus_says_nothing_of_any(client: httpx.AsyncClient) -> None:
    assert "gpu" not in (await client.get("/metrics")).text


async def test_cards_and_instances_are_told_apart(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Card(slices=[Slice(1, 9728, "1g.10gb", used_mib=512), Slice(1, 9728, "1g.10gb")])
    slow = Card(
        reasons=pynvml.nvmlClocksEventReasonSwPowerCap,
        errors={"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_NOT_SUPPORTED},
    )
    cards(monkeypatch, FakeNvml(cut, slow))
    told = await scrape(client)
    assert told["slipstream_gpu_utilization_ratio"] == {("1", "GPU-1", ""): 0.63}, "of a card that is cut NVML has none"
    assert told["slipstream_gpu_power_watts"] == {("0", "GPU-0", ""): 412.3}
    assert told["slipstream_gpu_memory_used_bytes"] == {
        ("0", "GPU-0", ""): GIB, ("1", "GPU-1", ""): GIB,
        ("0", "MIG-0", "1g.10gb"): GIB / 2, ("0", "MIG-1", "1g.10gb"): 0,
    }  # fmt: skip
    assert told["slipstream_gpu_sm_clock_hertz"]["1", "GPU-1", ""] == 1.98e9
    slowed = told["slipstream_gpu_slowed"]
    assert (slowed["1", "GPU-1", "", "power cap"], slowed["1", "GPU-1", "", "power brake"]) == (1, 0)
    assert slowed["0", "GPU-0", "", "power cap"] == 0


@pytest.mark.parametrize(
    ("source", "missing", "there"),
    [
        ("read_counters", "slipstream_machine_", "slipstream_process_"),
        ("memory", "slipstream_machine_memory_", "slipstream_machine_cpu_"),
        ("Gpus", "slipstream_gpu_", "slipstream_machine_"),
    ],
)
async def test_a_source_that_fails_is_missing_and_told_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, source: str, missing: str, there: str
) -> None:
    def fail() -> None:
        raise OSError("/proc is gone")

    monkeypatch.setattr(machine, source, fail)
    monkeypatch.setattr(machine, "_KEPT_S", 0.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            told = await scrape(client)
            assert not [name for name in told if name.startswith(missing)]
            assert [name for name in told if name.startswith(there)]
            assert "slipstream_info" in told
    (warned,) = (entry for entry in logs if entry["event"] == "metrics.source_failed")
    assert warned["log_level"] == "warning"


def test_scrapes_within_a_second_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [50.0], []
    monkeypatch.setattr(machine, "monotonic", lambda: now[0])
    monkeypatch.setattr(machine, "memory", lambda: looks.append(now[0]) or (1, 2))
    collector = MachineCollector()
    for moment in (50.0, 50.5, 50.99, 51.5):
        now[0] = moment
        collector.collect()
    assert looks == [50.0, 51.5]


def test_a_scrape_looks_at_no_process_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML may take a second to open, which a start should not."""
    monkeypatch.setattr(machine, "Gpus", lambda: pytest.fail("opened"))
    MachineCollector()
