"""A file of looks: written beside a load, read after whatever happened to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import psutil
import pytest

from slipstream.profiling.telemetry.gpus import Gpus
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Gpu, Process, Telemetry
from slipstream.profiling.telemetry.sampler import Sampler, read_telemetry
from tests.engines.fake_nvml import Card, FakeNvml, Slice

SAMPLE = (
    "import sys, time; from pathlib import Path; from slipstream.profiling.telemetry.sampler import Sampler\n"
    "with Sampler(Path(sys.argv[1]), {}, 0.02): print('up', flush=True); time.sleep(60)"
)
OLD = {
    "t_s": 105.0, "cpu_share": 0.5, "memory_bytes": 3_000, "generator_cpu_share": 0.1,
    "gpu_share": [0.9, None], "gpu_memory_bytes": [7, 8], "gpu_power_w": [300.5, None],
}  # fmt: skip


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_busy_process_and_this_machine_are_in_the_file(tmp_path: Path, busy: int) -> None:
    path, start, spent = tmp_path / "telemetry.jsonl", perf_counter(), _cpu_s(busy)
    with Sampler(path, {busy: LOAD_GENERATOR, os.getpid(): "server"}, 0.2):
        while _cpu_s(busy) - spent < 1.0 or perf_counter() - start < 1.0:
            sleep(0.05)
    length = perf_counter() - start
    looks = read_telemetry(path, start)
    assert 2 <= len(looks) <= length / 0.2
    assert all(0 < first.t_s < second.t_s < length for first, second in pairwise(looks))
    for look in looks:
        assert look.cpu_share is not None
        assert look.busiest_core_share is not None
        assert 0 < look.cpu_share <= look.busiest_core_share <= 1
        assert look.memory_bytes is not None
        assert look.memory_total_bytes is not None
        assert 0 < look.memory_bytes < look.memory_total_bytes
        assert look.context_switches_per_s is not None
        assert look.context_switches_per_s > 0
        # This process has the other tests' servers for children, which have roles of their own.
        assert {one.role for one in look.processes if one.pid in (busy, os.getpid())} == {LOAD_GENERATOR, "server"}
        assert {one.cpu_share for one in look.processes if one.pid == busy} == {look.generator_cpu_share}
    lengths = np.diff([0.0, *(look.t_s for look in looks)])
    shares = np.array([look.generator_cpu_share for look in looks], np.float64)
    # Of one core, a whole one where nothing else runs: over time it is what the kernel says that it had.
    assert (shares * lengths).sum() == pytest.approx(_cpu_s(busy) - spent, rel=0.3)


def _cpu_s(pid: int) -> float:
    spent = psutil.Process(pid).cpu_times()
    return spent.user + spent.system


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(Card(slices=[Slice(1, 9728, "1g.10gb")]), Card())
    monkeypatch.setattr("slipstream.profiling.telemetry.sampler.Gpus", lambda: Gpus(nvml))
    path = tmp_path / "telemetry.jsonl"
    with Sampler(path, {os.getpid(): "server"}, 0.02):
        sleep(0.2)
    assert nvml.open == 0
    (*_, last) = read_telemetry(path, 0.0)
    assert [(gpu.index, gpu.uuid, gpu.mig) for gpu in last.gpus] == [
        (0, "GPU-0", ""), (0, "MIG-0", "1g.10gb"), (1, "GPU-1", ""),
    ]  # fmt: skip
    assert (last.gpus[0].busy_share, last.gpus[2].busy_share, last.gpus[2].slowed_by) == (None, 0.63, ())
    assert isinstance(last.processes[0], Process)


def test_a_sampler_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    process = subprocess.Popen([sys.executable, "-c", SAMPLE, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = perf_counter() + 20
    while not path.is_file() or path.read_bytes().count(b"\n") < 3:
        assert perf_counter() < deadline
        sleep(0.02)
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(read_telemetry(path, 0.0)) == path.read_bytes().count(b"\n") >= 3


def test_a_run_that_goes_on_appends_behind_what_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.write_text('{"t_s": 0.5}\n{"t_s": 1.0, "cpu_sh')
    with Sampler(path, {}, 0.02):
        sleep(0.2)
    looks = read_telemetry(path, 0.0)
    assert looks[0] == Telemetry(0.5)
    assert len(looks) == len(path.read_text().splitlines()) - 1 >= 2


@pytest.mark.parametrize(
    "line",
    [
        '{"t_s": 9, "cpu_share": 0.',
        "",
        "null",
        "[1]",
        '"t_s"',
        "{}",
        '{"t_s": null}',
        '{"t_s": "x"}',
        '{"t_s": 99.5}',
        '{"t_s": 101, "cpu_share": "much"}',
        '{"t_s": 101, "gpus": [{"uuid": "no index"}]}',
        '{"t_s": 101, "gpu_share": 3}',
        "\ufffd\x00",
    ],
)
def test_what_is_no_telemetry_of_this_run_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(
        b'{"t_s": 102}\n' + line.encode() + b"\n\xff\xfe\n" + b'{"t_s": 103, "later": 1}\n' + line.encode()
    )
    assert read_telemetry(path, 100.0) == [Telemetry(2.0), Telemetry(3.0)]


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    bare = {"t_s": 106.0, "cpu_share": None, "gpu_share": [], "gpu_memory_bytes": [], "gpu_power_w": []}
    path.write_text(json.dumps(OLD) + "\n" + json.dumps(bare) + "\n")
    gpus = (Gpu(0, busy_share=0.9, memory_bytes=7, power_w=300.5), Gpu(1, memory_bytes=8))
    first = Telemetry(5.0, cpu_share=0.5, memory_bytes=3_000, generator_cpu_share=0.1, gpus=gpus)
    assert read_telemetry(path, 100.0) == [first, Telemetry(6.0)]


def test_no_file_is_no_telemetry(tmp_path: Path) -> None:
    assert read_telemetry(tmp_path / "none.jsonl", 0.0) == []


def test_a_disk_that_takes_nothing_ends_the_telemetry_and_nothing_else() -> None:
    """In a thread, where an exception would be pytest's to report."""
    with Sampler(Path("/dev/full"), {}, 0.01):
        sleep(0.1)
