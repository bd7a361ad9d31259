"""``slipstream loadtest --find-capacity`` as its user runs it, on a server whose capacity is known."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loadtest.command_line import folder_in
from tests.loadtest.conftest import ROOT, write_scenario
from tests.loadtest.test_loadtest_command import await_the_generators_end, finished, refused, start

CAPACITY = 20.0
"""Two slots, 0.1 s per answer; requests at even distances do not wait below it, and above it the queue grows."""


@pytest.fixture(scope="module")
def slotted_host() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.loadtest.mock_server", "--slots", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as mock:
        assert mock.stdout is not None
        yield f"http://127.0.0.1:{int(mock.stdout.readline())}"
        mock.terminate()


def slotted(folder: Path, rate: float = 16.0, **fields: Any) -> Path:
    given = {
        "arrivals": {"kind": "constant", "rate": rate},
        "slos": [{"metric": "ttft", "bound_ms": 150}],
        "extra_body": {"mock": {"chunks": 5, "rate": 50, "first_s": 0.02}},
        "max_lag_ms": 100,
    }
    return write_scenario(folder, **given | fields)


SHORT = ("--find-capacity", "--precision", 0.5, "--requests", 59, "--duration", 1)


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "capacity.json").read_text())
    return content


def test_the_capacity_lies_within_what_is_found(tmp_path: Path, slotted_host: str) -> None:
    home = tmp_path / "home"
    code, out, err = finished(home, slotted(tmp_path), *SHORT, "--url", slotted_host)
    assert code == 0, out + err
    assert out.startswith("searching from 16.0 requests/s on: points of 59 requests")
    assert "p95 TTFT ≤ 150 ms binds" in out
    folder = folder_in(home)
    outcome = record(folder)["outcome"]
    assert outcome["held_per_s"] <= CAPACITY <= outcome["refuted_per_s"] <= 1.5 * outcome["held_per_s"]
    points = outcome["points"]
    assert len({point["seed"] for point in points}) == len(points) >= 3
    held = [point for point in points if point["finding"] == "held"]
    assert all(point["counted"] == 59 and point["stopped"] is None for point in held)
    assert any(point["stopped"] == "refuted" and point["counted"] < 59 for point in points)
    for point in points:
        assert (folder / point["folder"] / "report.html").is_file()
    page = (folder / "report.html").read_text()
    assert "CAPACITY" in page
    assert "requests/s is proven" in page

    of_a_point, _, _ = finished(home, "--from", folder / held[0]["folder"])
    assert of_a_point == 0


def test_a_search_that_was_killed_is_concluded_and_goes_on(tmp_path: Path, slotted_host: str) -> None:
    home = tmp_path / "home"
    with start(home, slotted(tmp_path), *SHORT, "--url", slotted_host) as process:
        await_point(home, 2)
        process.kill()
    folder = folder_in(home)
    await_the_generators_end(folder)
    assert not (folder / "report.html").exists()

    code, out, err = finished(home, "--from", folder)
    assert code == 3, out + err
    assert "16.0 requests/s is proven" in out
    assert (folder / "report.html").is_file()

    code, out, err = finished(home, "--find-capacity", "--from", folder)
    assert code == 0, out + err
    findings = [(point["number"], point["finding"]) for point in record(folder)["outcome"]["points"]]
    assert findings[0] == (1, "held")
    assert findings[1] in ((2, "unfinished"), (2, "refuted"))  # the kill may come after the misses that refute it
    assert record(folder)["outcome"]["held_per_s"] == 16.0


def test_ctrl_c_concludes_what_ran(tmp_path: Path, slotted_host: str) -> None:
    home = tmp_path / "home"
    with start(home, slotted(tmp_path), *SHORT, "--url", slotted_host, "--json") as process:
        await_point(home, 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 3, out + err
    content = json.loads(out)
    assert content["ended"] == "it was stopped"
    assert [point["finding"] for point in content["outcome"]["points"]] == ["unfinished"]
    assert (folder_in(home) / "report.html").is_file()


def await_point(home: Path, number: int) -> None:
    """Until some of its measured requests ended, and most have not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list(home.glob(f"reports/*/point-{number:02}/samples.jsonl"))
        if files and len(files[0].read_bytes().splitlines()) > 12:
            return
        time.sleep(0.05)
    raise AssertionError(f"point {number} did not begin")


def test_a_closed_loop_has_no_capacity(tmp_path: Path, slotted_host: str) -> None:
    closed = slotted(tmp_path, arrivals={"kind": "closed", "users": 2})
    said = refused(tmp_path / "home", closed, "--find-capacity", "--url", slotted_host)
    assert "closed arrivals, and a capacity is a rate" in said


def test_a_point_that_takes_longer_than_there_is_time_is_said_before(tmp_path: Path, slotted_host: str) -> None:
    slow = slotted(tmp_path, rate=0.1)
    said = refused(tmp_path / "home", slow, "--find-capacity", "--url", slotted_host, "--max-time", 60)
    assert "one point takes 2080 s (208 requests at 0.1/s), and --max-time is 60 s" in said


def test_options_of_a_search_need_one(tmp_path: Path) -> None:
    assert "belong to --find-capacity" in refused(tmp_path / "home", "--max-time", 60)
