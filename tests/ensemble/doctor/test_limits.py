"""A container's memory and CPU are what its control groups grant, in both versions of them."""

from pathlib import Path

import pytest

from slipstream.ensemble.doctor.limits import Limits, read_limits

GIB = 1024**3
NO_LIMIT = 9223372036854771712


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def limits(tmp_path: Path, files: dict[str, object], groups: str) -> Limits:
    of = tmp_path / "groups"
    of.write_text(groups)
    return read_limits(tree(tmp_path / "cgroup", files), of)


def test_no_control_groups_at_all_limit_nothing(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "nowhere", tmp_path / "neither") == Limits()


def test_this_machine_can_be_read() -> None:
    found = read_limits()
    assert found.memory_bytes is None or found.memory_bytes > 0


def test_version_2_in_a_container(tmp_path: Path) -> None:
    files = {
        "cgroup.controllers": "cpu memory",
        "memory.max": 2 * GIB,
        "memory.current": 3 * GIB // 2,
        "memory.stat": f"anon 5\ninactive_file {GIB // 2}",
        "cpu.max": "150000 100000",
    }
    assert limits(tmp_path, files, "0::/\n") == Limits(2 * GIB, GIB, 1.5)


def test_version_2_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    files = {
        "cgroup.controllers": "cpu memory",
        "pod/memory.max": GIB,
        "pod/memory.current": GIB // 4,
        "pod/cpu.max": "50000 100000",
        "pod/box/memory.max": "max",
        "pod/box/cpu.max": "max 100000",
    }
    assert limits(tmp_path, files, "0::/pod/box\n") == Limits(GIB, GIB // 4, 0.5)


@pytest.mark.parametrize("path", ["/", "/docker/0a1b2c", "/../../elsewhere"])
def test_version_1_whatever_the_container_calls_its_group(tmp_path: Path, path: str) -> None:
    files = {
        "memory/memory.limit_in_bytes": 4 * GIB,
        "memory/memory.usage_in_bytes": 2 * GIB,
        "memory/memory.stat": f"total_inactive_file {GIB}",
        "cpu/cpu.cfs_quota_us": 200000,
        "cpu/cpu.cfs_period_us": 100000,
    }
    assert limits(tmp_path, files, f"4:memory:{path}\n1:cpu,cpuacct:{path}\n") == Limits(4 * GIB, GIB, 2.0)


def test_version_1_without_limits(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.usage_in_bytes": GIB,
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
    }
    assert limits(tmp_path, files, "4:memory:/\n1:cpu:/\n0::/\n") == Limits()


def test_files_that_are_empty_or_strange_limit_nothing(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "", "memory.max": "", "cpu.max": "plenty"}
    assert limits(tmp_path, files, "0::/\n") == Limits()
