"""GPUs against the engine that they are to run."""

import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from slipstream.ensemble.doctor import gpus
from slipstream.ensemble.doctor.examination import examine
from slipstream.ensemble.doctor.finding import Check, Finding, NotExamined, Subject
from tests.engines.fake_nvml import GIB, Card, FakeNvml, Slice
from tests.ensemble.doctor.homes import settings_of, write_bundle

MIB = 1024**2
H100 = 81559 * MIB
ALL: tuple[Check, ...] = (gpus.gpu, gpus.gpu_driver, gpus.gpu_engine, gpus.gpu_mig, gpus.gpu_clocks)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "home", gpus={"gpu": "h100"})
    return tmp_path / "home"


def look(home: Path, check: Check, nvml: FakeNvml) -> Finding:
    (found,) = examine(Subject(settings_of(home), nvml=nvml), [check])
    return found


def card(**values: Any) -> Card:
    return Card(**({"total": H100, "free": H100} | values))


def test_a_machine_that_has_what_it_needs(home: Path) -> None:
    subject = Subject(settings_of(home), nvml=FakeNvml(card()))
    assert [found.state for found in examine(subject, ALL)] == ["ok"] * len(ALL)


def test_a_bundle_for_the_cpu_needs_none_of_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "cpu")
    subject = Subject(settings_of(tmp_path / "cpu"), nvml=FakeNvml(card()))
    found = examine(subject, (*ALL, gpus.tensorrt_llm, gpus.container_toolkit))
    assert {one.state for one in found} == {"skipped"}
    assert "1 x NVIDIA H100 80GB HBM3, driver 580.65.06" in found[0].evidence


@pytest.mark.parametrize(
    ("error", "says", "remedy"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "Library Not Found", "--gpus all"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "Driver Not Loaded", "modprobe nvidia"),
        ("NVML_ERROR_NO_PERMISSION", "Insufficient Permissions", "/dev/nvidia*"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "mismatch", "reboot"),
        ("NVML_ERROR_UNKNOWN", "Unknown Error", "nvidia-smi"),
    ],
)
def test_an_nvml_that_does_not_answer_is_a_finding(home: Path, error: str, says: str, remedy: str) -> None:
    nvml = FakeNvml(errors={"nvmlInit": getattr(pynvml, error)})
    first, *others = examine(Subject(settings_of(home), nvml=nvml), ALL)
    assert first.state == "problem"
    assert says in first.evidence
    assert remedy in first.remedy
    assert {other.state for other in others} == {"skipped"}, "one cause, one problem"


def test_no_binding_is_a_finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (found,) = examine(Subject(settings_of(home)), [gpus.gpu])
    assert found.state == "problem"
    assert "nvidia-ml-py" in found.evidence
    assert "slipstream[serve]" in found.remedy


def test_fewer_gpus_than_the_engine_is_split_over(tmp_path: Path) -> None:
    write_bundle(tmp_path, gpus={"gpu": "h100", "tensor_parallel": 2})
    lost = card(errors={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST})
    found = look(tmp_path, gpus.gpu, FakeNvml(card(), lost))
    assert found.state == "problem"
    assert "GPU 1: GPU is lost" in found.evidence
    assert "needs 2" in found.evidence


def test_a_lost_gpu_that_is_not_needed_is_a_warning(home: Path) -> None:
    lost = card(errors={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST})
    assert look(home, gpus.gpu, FakeNvml(card(), lost)).state == "warning"


def test_gpus_that_a_variable_hides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = look(home, gpus.gpu, FakeNvml(card()))
    assert found.state == "problem"
    assert found.remedy == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ("1", ["GPU 1"]),
        ("1,0", ["GPU 1"]),
        ("GPU-1", ["GPU 1"]),
        (" 1 , 0 ", ["GPU 1"]),
        ("0,7", ["GPU 0"]),
        ("7,0", []),
        ("GPU-9", []),
        ("", []),
    ],
)
def test_the_gpus_that_a_variable_leaves_are_the_ones_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, left: list[str]
) -> None:
    """CUDA stops at the first entry that names nothing."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    nvml = FakeNvml(card(sm_mhz=100), card(sm_mhz=200))
    assert look(home, gpus.gpu, nvml).state == ("ok" if left else "problem")
    clocks = look(home, gpus.gpu_clocks, nvml)
    assert [name for name in ("GPU 0", "GPU 1") if name in clocks.evidence] == left
    assert clocks.state == ("ok" if left else "skipped")


def test_a_variable_can_leave_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path, gpus={"gpu": "h100", "tensor_parallel": 2})
    assert look(tmp_path, gpus.gpu, FakeNvml(card(), card())).state == "ok"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = look(tmp_path, gpus.gpu, FakeNvml(card(), card()))
    assert found.state == "problem"
    assert "CUDA_VISIBLE_DEVICES='1'; the engine needs 2" in found.evidence


@pytest.mark.parametrize(
    ("driver", "name", "state"),
    [
        ("590.44.01", "NVIDIA H100 80GB HBM3", "ok"),
        ("580.65.06", "NVIDIA GeForce RTX 4090", "ok"),
        ("570.124.06", "NVIDIA H100 80GB HBM3", "warning"),
        ("570.124.06", "NVIDIA GeForce RTX 4090", "problem"),
        ("535.183.01", "NVIDIA H100 80GB HBM3", "warning"),
        ("525.147.05", "NVIDIA H100 80GB HBM3", "problem"),
    ],
)
def test_which_drivers_run_the_containers_cuda(home: Path, driver: str, name: str, state: str) -> None:
    found = look(home, gpus.gpu_driver, FakeNvml(card(name=name), driver=driver))
    assert found.state == state
    assert driver in found.evidence
    assert (state == "ok") == (found.remedy == "")


@pytest.mark.parametrize(
    ("mode", "capability", "state"),
    [
        ("engine", (9, 0), "ok"),
        ("engine", (8, 9), "problem"),
        ("engine", (10, 0), "problem"),
        ("llmapi", (8, 9), "problem"),
        ("llmapi", (10, 0), "warning"),
    ],
)
def test_an_engine_runs_on_what_it_was_compiled_for(
    tmp_path: Path, mode: str, capability: tuple[int, int], state: str
) -> None:
    write_bundle(tmp_path, gpus={"gpu": "h100", "mode": mode})
    found = look(tmp_path, gpus.gpu_engine, FakeNvml(card(capability=capability)))
    assert found.state == state
    assert "built for h100 9.0" in found.evidence


def test_a_smaller_card_of_the_same_kind(home: Path) -> None:
    found = look(home, gpus.gpu_engine, FakeNvml(card(total=40 * GIB, free=40 * GIB)))
    assert found.state == "problem"
    assert "40.0 GiB" in found.evidence


def test_a_card_that_others_use(home: Path) -> None:
    found = look(home, gpus.gpu_engine, FakeNvml(card(free=20 * GIB)))
    assert found.state == "warning"
    assert "only 20.0 GiB of GPU 0 is free" in found.evidence


def test_a_card_that_this_homes_server_uses_is_no_news(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "server", 4711)
    assert look(home, gpus.gpu_engine, FakeNvml(card(free=20 * GIB))).state == "ok"


def test_a_slice_is_smaller_than_its_card(home: Path) -> None:
    found = look(home, gpus.gpu_engine, FakeNvml(card(slices=[Slice(3, 40448, "3g.40gb")])))
    assert found.state == "problem"
    assert "39.5 GiB" in found.evidence


class TestMig:
    def test_on_without_an_instance(self, home: Path) -> None:
        found = look(home, gpus.gpu_mig, FakeNvml(card(slices=[None])))
        assert found.state == "problem"
        assert "without instances" in found.evidence
        assert "nvidia-smi mig" in found.remedy

    def test_its_profiles_are_named(self, home: Path) -> None:
        found = look(home, gpus.gpu_mig, FakeNvml(card(slices=[Slice(7, 80000, "7g.80gb")])))
        assert (found.state, found.evidence) == ("ok", "GPU 0: 7g.80gb")

    def test_slices_of_different_sizes_are_told_apart_by_name(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small, large = Slice(1, 10000, "1g.10gb"), Slice(6, 82000, "6g.80gb")
        nvml = FakeNvml(card(slices=[small, large]))
        found = look(home, gpus.gpu_mig, nvml)
        assert (found.state, found.remedy) == ("warning", "say which: CUDA_VISIBLE_DEVICES=MIG-1")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
        assert (look(home, gpus.gpu_mig, nvml).state, look(home, gpus.gpu_engine, nvml).state) == ("ok", "ok")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0")
        assert look(home, gpus.gpu_engine, nvml).state == "problem"

    def test_an_engine_that_is_split_over_gpus(self, tmp_path: Path) -> None:
        write_bundle(tmp_path, gpus={"gpu": "h100", "tensor_parallel": 2})
        sliced = card(slices=[Slice(7, 80000, "7g.80gb")])
        assert look(tmp_path, gpus.gpu_mig, FakeNvml(sliced, card())).state == "problem"


@pytest.mark.parametrize(
    ("values", "says", "remedy"),
    [
        ({"reasons": pynvml.nvmlClocksEventReasonHwThermalSlowdown}, "slowed by thermal", "cooling"),
        ({"limit_mw": 350_000}, "350 of 700 W", "-pl 700"),
        ({"persistence": 0}, "persistence off", "-pm 1"),
    ],
)
def test_what_makes_a_gpu_slow_is_a_warning(home: Path, values: dict[str, int], says: str, remedy: str) -> None:
    found = look(home, gpus.gpu_clocks, FakeNvml(card(**values)))
    assert found.state == "warning"
    assert says in found.evidence
    assert remedy in found.remedy


def test_an_idle_gpu_is_not_slow(home: Path) -> None:
    idle = card(reasons=pynvml.nvmlClocksEventReasonGpuIdle, sm_mhz=345)
    assert look(home, gpus.gpu_clocks, FakeNvml(idle)).state == "ok"


def test_an_engine_that_cannot_be_read(home: Path) -> None:
    (serving,) = home.glob("bundles/*/engine/serving.json")
    serving.write_text("{")
    found = look(home, gpus.gpu, FakeNvml(card()))
    assert found.state == "problem"
    assert "is not a TensorRT-LLM engine" in found.evidence


def test_without_tensorrt_llm_the_container_is_named(home: Path) -> None:
    (found,) = examine(Subject(settings_of(home)), [gpus.tensorrt_llm])
    assert found.state == "problem"
    assert gpus.CONTAINER in found.remedy


@pytest.mark.parametrize(("release", "state"), [("1.2.1", "ok"), ("1.2.0", "problem"), ("1.3.0rc1", "problem")])
def test_engines_run_under_the_release_that_compiled_them(
    home: Path, monkeypatch: pytest.MonkeyPatch, release: str, state: str
) -> None:
    monkeypatch.setattr(gpus, "version", lambda name: release)
    found = look(home, gpus.tensorrt_llm, FakeNvml())
    assert found.state == state
    assert release in found.evidence
    assert (gpus.CONTAINER in found.remedy) == (state == "problem")


class TestContainerToolkit:
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "bin" / "nvidia-ctk"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    def write(self, root: Path, name: str, text: str) -> Path:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        return root

    def test_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert gpus.read_container_toolkit(tmp_path).state == "problem"

    @pytest.mark.usefixtures("installed")
    @pytest.mark.parametrize("text", ["", "{", "[]", '{"runtimes": 5}', '{"runtimes": {"runc": {}}}'])
    def test_installed_and_unknown_to_docker(self, tmp_path: Path, text: str) -> None:
        found = gpus.read_container_toolkit(self.write(tmp_path, "etc/docker/daemon.json", text))
        assert found.state == "problem"
        assert "runtime configure" in found.remedy

    @pytest.mark.usefixtures("installed")
    @pytest.mark.parametrize(
        ("name", "text"),
        [("etc/docker/daemon.json", '{"runtimes": {"nvidia": {}}}'), ("etc/cdi/nvidia.yaml", "cdiVersion: 0.6.0")],
    )
    def test_configured(self, tmp_path: Path, name: str, text: str) -> None:
        assert gpus.read_container_toolkit(self.write(tmp_path, name, text)).state == "ok"

    @pytest.mark.usefixtures("installed")
    def test_docker_finds_the_hook_without_being_told(self, tmp_path: Path) -> None:
        (tmp_path / "bin" / "nvidia-container-runtime-hook").symlink_to("nvidia-ctk")
        assert gpus.read_container_toolkit(tmp_path).state == "warning"

    @pytest.mark.parametrize(
        "trace",
        [".dockerenv", "run/.containerenv", "run/secrets/kubernetes.io/token", "NGC-DL-CONTAINER-LICENSE"],
    )
    def test_inside_a_container_there_is_nothing_to_see(self, tmp_path: Path, trace: str) -> None:
        with pytest.raises(NotExamined):
            gpus.read_container_toolkit(self.write(tmp_path, trace, ""))

    def test_nor_in_a_pod(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        with pytest.raises(NotExamined):
            gpus.read_container_toolkit(tmp_path)
