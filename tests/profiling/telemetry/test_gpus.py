"""What cards and MIG instances tell becomes records; what they do not tell is None, never 0."""

import sys
from collections.abc import Sequence
from dataclasses import fields

import pynvml
import pytest

from slipstream.profiling.telemetry import gpus as module
from slipstream.profiling.telemetry.gpus import Gpus
from slipstream.profiling.telemetry.nvml import MIB, Nvml
from slipstream.profiling.telemetry.records import Gpu
from tests.engines.fake_nvml import GIB, Card, FakeNvml, Slice

FUNCTIONS = sorted(name for name in vars(Nvml) if name.startswith("nvmlDevice"))
UNTOLD = pynvml.NVML_ERROR_NOT_SUPPORTED
LOST = dict.fromkeys(FUNCTIONS, pynvml.NVML_ERROR_GPU_IS_LOST)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only entry is the moment."""
    now = [100.0]
    monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def looks(*cards: Card) -> tuple[Gpu, ...]:
    return Gpus(FakeNvml(*cards)).look()


def known(gpu: Gpu) -> set[str]:
    return {field.name for field in fields(gpu) if getattr(gpu, field.name) not in (None, "")}


def test_a_machine_without_the_binding_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus = Gpus()
    assert gpus.look() == ()
    gpus.close()


@pytest.mark.parametrize("error", ["DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "NO_PERMISSION", "UNKNOWN"])
def test_a_driver_that_does_not_answer_is_no_error(error: str) -> None:
    nvml = FakeNvml(Card(), errors={"nvmlInit": getattr(pynvml, f"NVML_ERROR_{error}")})
    gpus = Gpus(nvml)
    assert gpus.look() == ()
    gpus.close()
    assert nvml.open == 0, "what was not opened is not closed"


def test_what_is_opened_is_closed() -> None:
    nvml = FakeNvml(Card())
    gpus = Gpus(nvml)
    assert nvml.open == 1
    gpus.close()
    assert nvml.open == 0


def test_a_card_tells_everything_in_base_units(clock: list[float]) -> None:
    card = Card(reasons=pynvml.nvmlClocksEventReasonSwPowerCap, pcie_bytes=(10**12, 5 * 10**11))
    gpus = Gpus(FakeNvml(card))
    gpus.look()
    card.pcie_bytes = (10**12 + 6 * 10**9, 5 * 10**11 + 10**6)
    clock[0] += 0.5
    assert gpus.look() == (
        Gpu(
            index=0,
            uuid="GPU-0",
            busy_share=0.63,
            memory_busy_share=0.41,
            memory_bytes=1 * GIB,
            memory_total_bytes=80 * GIB,
            sm_clock_hz=1_980_000_000,
            memory_clock_hz=2_619_000_000,
            power_w=412.3,
            temperature_c=45,
            pcie_rx_bytes_per_s=12e9,
            pcie_tx_bytes_per_s=2e6,
            slowed_by=("power cap",),
        ),
    )


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetUtilizationRates", "busy_share"),
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
        ("nvmlDeviceGetClockInfo", "sm_clock_hz"),
    ],
)
def test_what_a_card_does_not_tell_is_none_and_costs_nothing_else(function: str, field: str) -> None:
    (gpu,) = looks(Card(errors={function: UNTOLD}))
    assert getattr(gpu, field) is None
    assert gpu.fault == ""
    assert len(known(gpu)) > 6


def test_an_unslowed_card_is_told_from_one_that_says_nothing() -> None:
    reasons = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    silent, free = looks(Card(errors=dict.fromkeys(reasons, UNTOLD)), Card())
    assert (silent.slowed_by, free.slowed_by) == (None, ())


@pytest.mark.parametrize("is_old", [False, True], ids=["driver 535 and later", "older driver"])
def test_throttle_bits_are_words(is_old: bool) -> None:
    bits = pynvml.nvmlClocksEventReasonGpuIdle | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    bits |= pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    errors = {"nvmlDeviceGetCurrentClocksEventReasons": pynvml.NVML_ERROR_FUNCTION_NOT_FOUND} if is_old else {}
    (gpu,) = looks(Card(reasons=bits, errors=errors))
    assert gpu.slowed_by == ("thermal (hardware)", "power brake")


def test_mig_instances_follow_their_card_and_have_memory_alone() -> None:
    cut = Card(slices=[Slice(1, 9728, "1g.10gb", used_mib=100), None, Slice(3, 40448, "3g.40gb", used_mib=20000)])
    card, small, large, whole = looks(cut, Card())
    assert (card.index, card.uuid, card.mig, card.power_w) == (0, "GPU-0", "", 412.3)
    assert (small, large) == (
        Gpu(0, "MIG-0", "1g.10gb", memory_bytes=100 * MIB, memory_total_bytes=9728 * MIB),
        Gpu(0, "MIG-2", "3g.40gb", memory_bytes=20000 * MIB, memory_total_bytes=40448 * MIB),
    )
    assert (whole.index, whole.uuid, whole.busy_share) == (1, "GPU-1", 0.63)


def test_a_card_that_is_cut_is_not_said_to_be_idle() -> None:
    """NVML has no rates for it; a driver that answers 0 all the same is not believed."""
    card, part = looks(Card(slices=[Slice(1, 9728, "1g.10gb")], busy_percent=0, memory_busy_percent=0))
    assert (card.busy_share, card.memory_busy_share, part.busy_share) == (None, None, None)


def test_an_instance_whose_memory_is_not_told_has_the_size_of_its_profile() -> None:
    hidden = Slice(1, 9728, "1g.10gb", errors={"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION})
    _, part = looks(Card(slices=[hidden]))
    assert (part.memory_bytes, part.memory_total_bytes, part.fault) == (None, 9728 * MIB, "")


@pytest.mark.parametrize("function", ["nvmlDeviceGetAttributes_v2", "nvmlDeviceGetUUID"])
def test_an_instance_that_may_not_be_asked_hides_neither_its_card_nor_the_others(function: str) -> None:
    hidden = Slice(1, 9728, "1g.10gb", errors={function: pynvml.NVML_ERROR_NO_PERMISSION})
    card, other = looks(Card(slices=[hidden, Slice(3, 40448, "3g.40gb")]))
    assert (card.fault, card.power_w) == ("", 412.3)
    assert (other.uuid, other.mig, other.fault) == ("MIG-1", "3g.40gb", "")


def test_an_instance_whose_name_is_not_told_has_the_profile_of_its_size() -> None:
    unnamed = Slice(1, 9728, "1g.10gb", errors={"nvmlDeviceGetName": pynvml.NVML_ERROR_NO_PERMISSION})
    card, part = looks(Card(slices=[unnamed]))
    assert (card.fault, part.mig, part.memory_total_bytes) == ("", "1g.10gb", 9728 * MIB)


def test_an_instance_that_is_destroyed_midway_is_a_fault_of_its_own() -> None:
    first, second = Slice(1, 9728, "1g.10gb"), Slice(1, 9728, "1g.10gb")
    gpus = Gpus(FakeNvml(Card(slices=[first, second])))
    gpus.look()
    first.errors = LOST
    card, lost, other = gpus.look()
    assert (card.fault, lost, other.fault) == ("", Gpu(0, "MIG-0", "1g.10gb", fault="GPU is lost"), "")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_card_that_falls_off_the_bus_midway_hides_no_other(function: str) -> None:
    falling = Card(slices=None)
    gpus = Gpus(FakeNvml(falling, Card(power_mw=90_000)))
    before = gpus.look()
    falling.errors = {function: pynvml.NVML_ERROR_GPU_IS_LOST}
    after = gpus.look()
    assert [gpu.index for gpu in after] == [0, 1]
    assert (after[1].power_w, after[1].fault) == (90, "")
    assert after[0].uuid == before[0].uuid == "GPU-0"
    if after[0].fault:
        assert known(after[0]) == {"index", "uuid", "fault"}


def test_a_lost_card_says_so_and_is_back_after_a_reset() -> None:
    card = Card(errors=LOST)
    gpus = Gpus(FakeNvml(card))
    assert gpus.look() == (Gpu(0, fault="GPU is lost"),)
    card.errors = {}
    (gpu,) = gpus.look()
    assert (gpu.uuid, gpu.busy_share, gpu.fault) == ("GPU-0", 0.63, "")
    card.errors = LOST
    assert gpus.look() == (Gpu(0, "GPU-0", fault="GPU is lost"),)


def pcie(clock: list[float], *counts: tuple[int, int], **card: int) -> Sequence[tuple[float | None, float | None]]:
    """Rates of looks that are a second apart."""
    shown = Card(pcie_bytes=counts[0], **card)
    gpus = Gpus(FakeNvml(shown))
    gpus.look()
    rates = []
    for count in counts[1:]:
        clock[0] += 1.0
        shown.pcie_bytes = count
        (gpu,) = gpus.look()
        rates.append((gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s))
    return rates


def test_a_counter_that_wraps_says_nothing_once_and_goes_on(clock: list[float]) -> None:
    top = 2**64
    found = pcie(clock, (top - 1000, 0), (top - 500, 7), (200, 9), (700, 9))
    assert found == [(500, 7), (None, 2), (500, 0)]


def test_counters_of_32_bits_are_not_believed(clock: list[float]) -> None:
    """They go round several times between two looks."""
    found = pcie(clock, (0, 0), (10, 10), pcie_type=pynvml.NVML_VALUE_TYPE_UNSIGNED_INT)
    assert found == [(1_500_000, 300_000)], "what the driver measured itself, KB/s"


def test_a_driver_without_counters_is_asked_for_its_rate(clock: list[float]) -> None:
    (gpu,) = looks(Card(pcie_bytes=None))
    assert (gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s) == (1_500_000, 300_000)
    (silent,) = looks(Card(pcie_bytes=None, errors={"nvmlDeviceGetPcieThroughput": UNTOLD}))
    assert (silent.pcie_rx_bytes_per_s, silent.pcie_tx_bytes_per_s, silent.fault) == (None, None, "")


def test_two_looks_at_one_moment_divide_by_nothing(clock: list[float]) -> None:
    gpus = Gpus(FakeNvml(Card()))
    gpus.look()
    (gpu,) = gpus.look()
    assert (gpu.pcie_rx_bytes_per_s, gpu.fault) == (None, "")


def test_this_machine_whatever_it_has() -> None:
    gpus = Gpus()
    assert all(gpu.uuid or gpu.fault for gpu in gpus.look())
    gpus.close()
