"""The machine itself: what is too little, and what a container grants of it."""

import resource
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from slipstream.engines.host import probe_host
from slipstream.ensemble.doctor import machine
from slipstream.ensemble.doctor.examination import examine
from slipstream.ensemble.doctor.finding import GIB, MIB, Finding, Subject
from slipstream.ensemble.doctor.limits import Limits
from tests.ensemble.doctor.homes import settings_of, write_bundle
from tests.ensemble.retrieval.unprivileged import unprivileged

UNLIMITED = Limits()


@pytest.fixture
def subject(home: Path) -> Subject:
    return Subject(settings_of(home))


def test_another_python_is_a_problem(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.python(subject).state == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 13, 1, "final", 0))
    assert machine.python(subject).state == "problem"


def test_the_python_of_nvidias_container_is_none_where_a_bundle_runs_on_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "home", gpus={"gpu": "h100"})
    for release, state in (((3, 12), "ok"), ((3, 11), "ok"), ((3, 13), "problem")):
        monkeypatch.setattr(sys, "version_info", (*release, 3, "final", 0))
        assert machine.python(Subject(settings_of(tmp_path / "home"))).state == state


def test_a_cpu_without_what_the_engine_was_compiled_for(tmp_path: Path) -> None:
    write_bundle(tmp_path / "home", fingerprint={"arch": probe_host().arch, "isa": ["avx2", "quantum"]})
    (found,) = examine(Subject(settings_of(tmp_path / "home")), [machine.cpu])
    assert found.state == "problem"
    assert "quantum" in found.evidence
    assert "pass the host CPU through" in found.remedy


def test_this_cpu_is_named(subject: Subject) -> None:
    found = machine.cpu(subject)
    assert found.state == "ok"
    assert "cores" in found.evidence


class TestMemory:
    """The default cache of 512 MiB and 600 MiB of processes: 1.1 GiB."""

    def weigh(self, subject: Subject, total: int, available: int, limits: Limits = UNLIMITED) -> Finding:
        return machine.weigh_memory(subject, total, available, limits)

    def test_too_little_is_a_problem(self, subject: Subject) -> None:
        found = self.weigh(subject, GIB, GIB)
        assert found.state == "problem"
        assert "1.1 GiB needed" in found.evidence
        assert "KV cache 512 MiB" in found.evidence

    def test_enough_that_others_hold_is_a_warning(self, subject: Subject) -> None:
        assert self.weigh(subject, 16 * GIB, GIB // 2).state == "warning"

    def test_a_containers_limit_counts_and_not_the_machine(self, subject: Subject) -> None:
        found = self.weigh(subject, 64 * GIB, 60 * GIB, Limits(memory_bytes=GIB, memory_used_bytes=0))
        assert found.state == "problem"
        assert "1.0 GiB granted to this control group" in found.evidence

    def test_what_the_container_uses_already_counts(self, subject: Subject) -> None:
        limits = Limits(memory_bytes=2 * GIB, memory_used_bytes=3 * GIB // 2)
        assert self.weigh(subject, 64 * GIB, 60 * GIB, limits).state == "warning"

    def test_a_limit_above_what_there_is_grants_nothing(self, subject: Subject) -> None:
        found = self.weigh(subject, GIB, GIB, Limits(memory_bytes=64 * GIB, memory_used_bytes=0))
        assert found.state == "problem"

    def test_enough_is_enough(self, subject: Subject) -> None:
        assert self.weigh(subject, 4 * GIB, 3 * GIB).state == "ok"

    def test_without_a_bundle_nothing_is_demanded(self, tmp_path: Path) -> None:
        assert self.weigh(Subject(settings_of(tmp_path / "none")), GIB, MIB).state == "ok"

    def test_this_machine_can_be_weighed(self, subject: Subject) -> None:
        assert "needed" in machine.memory(subject).evidence


class TestDisk:
    def look(self, home: Path) -> Finding:
        (found,) = examine(Subject(settings_of(home)), [machine.disk])
        return found

    def test_a_home_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        found = self.look(tmp_path / "a" / "b")
        assert found.state in ("ok", "warning")
        assert f"where {tmp_path / 'a' / 'b'} will be made" in found.evidence
        assert list(tmp_path.iterdir()) == []

    def test_a_home_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("a file")
        found = self.look(tmp_path / "home")
        assert found.state == "problem"
        assert "is not a folder" in found.evidence

    def test_a_home_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a file")
        found = self.look(tmp_path / "file" / "home")
        assert found.state == "problem"
        assert "SLIPSTREAM_HOME" in found.remedy

    def test_a_home_that_takes_no_files(self, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir(mode=0o555)
        tmp_path.joinpath("home").chmod(0o555)
        found = unprivileged(lambda: self.look(tmp_path / "home"))
        assert found.state == "problem"
        assert "cannot be written to" in found.evidence

    def test_a_repository_that_another_user_left(self, home: Path, tmp_path: Path) -> None:
        """As after one run with sudo: the home takes files, and what a server writes first does not."""
        for folder in (tmp_path, home):
            folder.chmod(0o777)
        (home / "repository").mkdir()
        (home / "repository").chmod(0o555)
        found = unprivileged(lambda: self.look(home))
        assert found.state == "problem"
        assert f"{home / 'repository'} cannot be written to" in found.evidence


class TestSharedMemory:
    def test_no_place_for_it(self, tmp_path: Path) -> None:
        found = machine.weigh_shared_memory(tmp_path / "shm", 0)
        assert found.state == "problem"
        assert "--shm-size" in found.remedy

    def test_less_than_is_comfortable(self, tmp_path: Path) -> None:
        assert machine.weigh_shared_memory(tmp_path, 1 << 60).state == "warning"

    def test_enough(self, tmp_path: Path) -> None:
        assert machine.weigh_shared_memory(tmp_path, 0).state == "ok"


class TestGovernor:
    def tree(self, root: Path, governor: str, driver: str) -> Path:
        for core in range(2):
            folder = root / f"cpu{core}" / "cpufreq"
            folder.mkdir(parents=True)
            (folder / "scaling_governor").write_text(governor + "\n")
            (folder / "scaling_driver").write_text(driver + "\n")
        return root

    @pytest.mark.parametrize(
        ("governor", "driver", "state"),
        [
            ("powersave", "acpi-cpufreq", "warning"),
            ("powersave", "intel_pstate", "ok"),
            ("performance", "acpi-cpufreq", "ok"),
        ],
    )
    def test_only_a_driver_that_obeys_it_makes_cores_slow(
        self, tmp_path: Path, governor: str, driver: str, state: str
    ) -> None:
        assert machine.read_governor(self.tree(tmp_path, governor, driver)).state == state

    def test_a_kernel_that_does_not_tell(self, tmp_path: Path) -> None:
        assert machine.read_governor(tmp_path).state == "skipped"


class Usage(NamedTuple):
    """What `shutil.disk_usage` tells, of a disk that no test can fill."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("free", "state"), [(99 * MIB, "problem"), (101 * MIB, "warning"), (4 * GIB, "warning"), (6 * GIB, "ok")]
)
def test_what_is_free_on_the_disk_decides(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: Usage(100 * GIB, 0, free))
    found = machine.disk(subject)
    assert found.state == state
    assert bool(found.remedy) == (state != "ok")


@pytest.mark.parametrize(
    ("gpus", "free", "state"),
    [
        (None, 7 * MIB, "problem"),
        (None, 31 * MIB, "warning"),
        (None, 64 * MIB, "ok"),
        ({"gpu": "h100"}, 64 * MIB, "warning"),
        ({"gpu": "h100"}, GIB, "ok"),
    ],
)
def test_what_is_free_of_shared_memory_decides_and_gpus_want_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: dict[str, str] | None, free: int, state: str
) -> None:
    write_bundle(tmp_path / "home", gpus=gpus)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: Usage(100 * GIB, 0, free))
    assert machine.shared_memory(Subject(settings_of(tmp_path / "home"))).state == state


@pytest.mark.parametrize(
    ("soft", "state"),
    [(255, "problem"), (256, "warning"), (1023, "warning"), (1024, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_how_many_files_may_be_open(subject: Subject, monkeypatch: pytest.MonkeyPatch, soft: int, state: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, resource.RLIM_INFINITY))
    found = machine.open_files(subject)
    assert found.state == state
    assert ("ulimit -n 1024" in found.remedy) == (state != "ok")


@pytest.mark.parametrize(("cpus", "state"), [(0.5, "warning"), (1.0, "ok"), (None, "ok")])
def test_less_than_a_core_is_a_warning(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, cpus: float | None, state: str
) -> None:
    monkeypatch.setattr(machine, "read_limits", lambda: Limits(cpus=cpus))
    found = machine.cpu(subject)
    assert found.state == state
    assert ("of them granted" in found.evidence) == (cpus is not None)


def test_memory_that_this_homes_server_holds_is_no_news(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weigh() -> Finding:
        return machine.weigh_memory(Subject(settings_of(home)), 16 * GIB, GIB // 2, UNLIMITED)

    assert weigh().state == "warning"
    monkeypatch.setattr(Subject, "server", 4711)
    assert weigh().state == "ok"
