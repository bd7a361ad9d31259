"""A comparison on a busy machine compares the other processes."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.benchmarks.peer import quiet


@pytest.fixture
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


def test_a_process_that_computes_counts_unless_it_is_what_we_measure(spinning: subprocess.Popen[bytes]) -> None:
    others, ours, started = quiet.Watch([]), quiet.Watch([spinning.pid]), time.perf_counter()
    process = psutil.Process(spinning.pid)
    while process.cpu_times().user < 0.3:  # on a busy machine that takes its time
        time.sleep(0.02)
    capacity = (time.perf_counter() - started) * (psutil.cpu_count() or 1)
    assert (others.others() - ours.others()) * capacity == pytest.approx(0.3, abs=0.15)


def test_a_busy_machine_is_refused_with_what_to_do(
    spinning: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "IDLE_SHARE", 0.0)  # whatever the number of processors
    with pytest.raises(quiet.MachineBusy, match="other processes take") as raised:
        quiet.wait_until_idle([], patience_s=0)
    assert "--busy" in raised.value.remedy


def test_what_we_measure_may_compute(spinning: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "IDLE_SHARE", 1.0)
    quiet.wait_until_idle([spinning.pid], patience_s=0)
