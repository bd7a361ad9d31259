"""What NVML tells becomes typed facts; what it does not tell becomes a reason, never a traceback."""

import inspect
import sys

import pynvml
import pytest

from slipstream.engines.gpu import MIB, MigInstance, Nvml, probe_gpus
from tests.engines.fake_nvml import GIB, Card, FakeNvml, Slice

FUNCTIONS = sorted(name for name in dir(Nvml) if name.startswith("nvml"))
ERRORS = sorted(name for name in vars(pynvml) if name.startswith("NVML_ERROR_"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_real_binding_has_every_function_that_is_called(name: str) -> None:
    theirs = inspect.signature(getattr(pynvml, name)).parameters.values()
    ours = [name for name in inspect.signature(getattr(Nvml, name)).parameters if name != "self"]
    assert len([one for one in theirs if one.default is inspect.Parameter.empty]) == len(ours)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_fake_has_every_function_that_is_called(name: str) -> None:
    assert inspect.signature(getattr(FakeNvml, name)) == inspect.signature(getattr(Nvml, name)) or name in vars(
        FakeNvml
    )


def test_a_machine_without_the_binding_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    survey = probe_gpus()
    assert survey.problem is not None
    assert survey.problem.reason == "no_binding"
    assert survey.gpus == ()


def test_a_machine_without_the_driver_is_no_error() -> None:
    """On this machine, with the real binding, whatever it has."""
    survey = probe_gpus()
    assert survey.problem is not None or survey.driver


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_of_the_start_is_a_reason(error: str) -> None:
    survey = probe_gpus(FakeNvml(errors={"nvmlInit": getattr(pynvml, error)}))
    told_apart = {
        "NVML_ERROR_LIBRARY_NOT_FOUND": "no_library",
        "NVML_ERROR_DRIVER_NOT_LOADED": "no_driver",
        "NVML_ERROR_NO_PERMISSION": "no_permission",
        "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "version_mismatch",
    }
    assert survey.problem is not None
    assert survey.problem.reason == told_apart.get(error, "failed")
    assert survey.problem.message


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "nvmlInit"])
@pytest.mark.parametrize("error", ["NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_UNKNOWN"])
def test_no_function_that_fails_is_a_traceback(function: str, error: str) -> None:
    code = getattr(pynvml, error)
    nvml = FakeNvml(Card(errors={function: code}), errors={function: code})
    probe_gpus(nvml)
    assert nvml.open == 0, "what was opened is closed"


def test_a_lost_gpu_does_not_hide_the_others() -> None:
    lost = Card(errors={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST})
    survey = probe_gpus(FakeNvml(Card(), lost, Card(name="NVIDIA L40S", capability=(8, 9))))
    assert [(gpu.index, gpu.name, gpu.compute_capability) for gpu in survey.gpus] == [
        (0, "NVIDIA H100 80GB HBM3", (9, 0)),
        (2, "NVIDIA L40S", (8, 9)),
    ]
    assert [(fault.index, fault.message) for fault in survey.faults] == [(1, "GPU is lost")]


def test_what_a_card_does_not_tell_is_none() -> None:
    silent = ("MigMode", "CurrentEccMode", "PersistenceMode", "EnforcedPowerLimit", "ClockInfo", "Temperature")
    card = Card(errors={f"nvmlDeviceGet{name}": pynvml.NVML_ERROR_NOT_SUPPORTED for name in silent})
    (gpu,) = probe_gpus(FakeNvml(card)).gpus
    assert (gpu.mig, gpu.ecc, gpu.persistence, gpu.power_limit_w, gpu.sm_clock_mhz, gpu.temperature_c) == (None,) * 6
    assert gpu.power_default_w == 700


def test_a_card_tells_everything() -> None:
    survey = probe_gpus(FakeNvml(Card(limit_mw=350_000, persistence=0), driver="575.57.08", cuda=12090))
    assert (survey.driver, survey.cuda, survey.problem, survey.faults) == ("575.57.08", (12, 9), None, ())
    (gpu,) = survey.gpus
    assert (gpu.memory_bytes, gpu.memory_free_bytes) == (80 * GIB, 79 * GIB)
    assert (gpu.power_limit_w, gpu.power_default_w) == (350, 700)
    assert (gpu.persistence, gpu.ecc, gpu.mig, gpu.slowed_by) == (False, True, False, ())


def test_slices_are_read_with_gaps_and_without_names() -> None:
    slices = [Slice(1, 9728, "1g.10gb"), None, Slice(3, 40448, "3g.40gb", named=False)]
    (gpu,) = probe_gpus(FakeNvml(Card(slices=slices))).gpus
    assert gpu.mig is True
    assert gpu.mig_instances == (
        MigInstance("1g.10gb", "MIG-0", 9728 * MIB),
        MigInstance("3g.40gb", "MIG-2", 40448 * MIB),
    )


def test_a_sliced_gpu_without_leave_to_read_its_memory_has_that_of_its_slices() -> None:
    card = Card(
        slices=[Slice(1, 9728, "1g.10gb"), Slice(1, 9728, "1g.10gb")],
        errors={"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION},
    )
    (gpu,) = probe_gpus(FakeNvml(card)).gpus
    assert (gpu.memory_bytes, gpu.memory_free_bytes) == (2 * 9728 * MIB, None)


@pytest.mark.parametrize("is_old", [False, True], ids=["driver 535 and later", "older driver"])
def test_only_what_makes_it_slower_is_a_slowdown(is_old: bool) -> None:
    bits = (
        pynvml.nvmlClocksEventReasonGpuIdle
        | pynvml.nvmlClocksEventReasonSwPowerCap
        | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    )
    unknown = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    errors = {"nvmlDeviceGetCurrentClocksEventReasons": unknown} if is_old else {}
    (gpu,) = probe_gpus(FakeNvml(Card(reasons=bits, errors=errors))).gpus
    assert gpu.slowed_by == ("power cap", "thermal (hardware)")
