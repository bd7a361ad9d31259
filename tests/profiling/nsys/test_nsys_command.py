"""``slipstream profile nsys``: the real nsys around a small server that marks its stages."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from slipstream.profiling.nsys import tool
from slipstream.profiling.nsys.capture import CaptureFolder
from slipstream.profiling.nsys.session import Session
from slipstream.profiling.nsys.tool import Nsys
from tests.conftest import invoke
from tests.profiling.nsys.exports import Made

ROOT = Path(__file__).parents[3]
ANSWERING = Path(__file__).with_name("answering.py")


def profile(home: Path, *options: object) -> Result:
    return invoke("profile", "nsys", *map(str, options), home=home)


def refused(home: Path, *options: object) -> str:
    done = profile(home, *options)
    assert done.exit_code == 2, done.output
    assert not (home / "reports").exists()
    return done.stderr


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "p{number}"}}\n' for number in range(500)))
    fields = {
        "arrivals": {"kind": "constant", "rate": 20},
        "prompts": {"kind": "jsonl", "path": str(tmp_path / "prompts.jsonl")},
        "model": "slipstream-base",
        "warmup": 2,
        "duration": 60,
    }
    path = tmp_path / "steady.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.fixture
def small_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.profiling.nsys.serving.SERVE", (sys.executable, str(ANSWERING)))


class TestWithoutNsys:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(tool, "UNPACKED", tmp_path / "nsys")

    def test_it_says_how_to_install_it(self, tmp_path: Path) -> None:
        said = refused(tmp_path)
        assert "Nsight Systems (nsys) is not on this machine" in said
        assert "make nsys" in said
        assert "nsight-systems-cli" in said

    def test_one_that_does_not_run_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "nsys").write_text("#!/bin/sh\necho out of order >&2; exit 3\n")
        (tmp_path / "nsys").chmod(0o755)
        said = refused(tmp_path)
        assert "does not run" in said
        assert "out of order" in said

    def test_one_for_another_machine_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "nsys").write_bytes(b"\x7fELF none")
        (tmp_path / "nsys").chmod(0o755)
        assert "does not run" in refused(tmp_path)

    def test_an_export_is_read_all_the_same(self, tmp_path: Path) -> None:
        made = Made(tmp_path / "capture.sqlite")
        made.request(1, 0)
        done = profile(tmp_path, "--from", made.path)
        assert done.exit_code == 0, done.output
        assert "1 whole requests of 1" in done.stdout
        assert "embed" in done.stdout

    def test_a_folder_whose_export_is_left_too(self, tmp_path: Path) -> None:
        folder = CaptureFolder(tmp_path / "profile" / "nsys")
        folder.root.mkdir(parents=True)
        made = Made(folder.export)
        made.request(1, 0)
        done = profile(tmp_path, "--from", tmp_path / "profile")
        assert done.exit_code == 0, done.output
        assert "the slowest 1 of 1 whole requests, up to 0.1 ms (median 0.1 ms)" in done.stdout
        assert f"reading  {folder.reading}" in done.stdout
        assert str(folder.report) not in done.stdout
        folder.raw.touch()  # an import that was never finished: the export may be of a part
        assert "make nsys" in refused(tmp_path, "--from", folder.root)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--url", "http://127.0.0.1:1"), "cannot attach to a server that it did not start"),
        (("--session", "s"), "--session goes with --url"),
        (("--session", "s", "--url", "http://127.0.0.1:1", "--bundle", "b"), "leave --bundle out"),
        (("--duration", "0"), "0"),
        (("--from", "nowhere"), "there is no nowhere"),
        (("--from", "nowhere.nsys-rep"), "there is no nowhere.nsys-rep"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, options: Any, told: str) -> None:
    assert told in refused(tmp_path, *options)


def test_a_folder_without_a_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nsys").mkdir()
    assert "holds no capture" in refused(tmp_path, "--from", tmp_path)


def test_what_cannot_be_loaded_or_served_is_refused_before_nsys_runs(nsys: Nsys, tmp_path: Path) -> None:
    assert "no scenario 'fly'" in refused(tmp_path, "--scenario", "fly")
    assert "no bundle 'none'" in refused(tmp_path, "--bundle", "none")


def captured(home: Path) -> CaptureFolder:
    (folder,) = (home / "reports").iterdir()
    assert folder.name.startswith("profile-")
    assert folder.name.endswith("-steady")
    return CaptureFolder(folder / "nsys")


@pytest.mark.usefixtures("small_server")
def test_a_window_of_a_load_is_captured_and_read(nsys: Nsys, scenario: Path, tmp_path: Path) -> None:
    done = profile(tmp_path, "--scenario", scenario, "--duration", 3, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    folder = captured(tmp_path)
    assert json.loads(folder.reading.read_text()) == said
    requests, stages = said["requests"], {one["stage"]: one for one in said["stages"]}
    assert requests["answered"] > 10
    assert requests["answered"] <= requests["whole"] <= requests["seen"]
    assert list(stages) == ["queue", "embed", "prefill", "decode", "stream", "step"]
    assert stages["decode"]["ranges"] >= 2 * requests["whole"]
    assert stages["embed"]["p50_ms"] >= 2
    # 2 s of warm-up at 20 requests/s are not in it: the capture is as long as its window and the load went on.
    assert 2500 < said["window_ms"] < 20_000
    assert [part["stage"] for part in requests["slowest"][0]["path"] if part["stage"]][:2] == ["queue", "embed"]
    assert not folder.raw.exists()
    assert folder.report.stat().st_size > 0
    assert folder.root.stat().st_mode & 0o077 == 0  # a capture holds environments
    again = profile(tmp_path, "--from", folder.root.parent, "--json")
    assert json.loads(again.stdout) == said
    folder.export.unlink()
    folder.reading.unlink()
    anew = json.loads(profile(tmp_path, "--from", folder.root, "--json").stdout)
    assert anew["stages"] == said["stages"]
    shown = profile(tmp_path, "--from", folder.report)
    assert "waits inside" in shown.stdout
    assert "clock_nanosleep" in shown.stdout


@pytest.mark.usefixtures("small_server")
def test_a_load_that_ends_in_its_warm_up_is_no_capture(nsys: Nsys, scenario: Path, tmp_path: Path) -> None:
    """A closed loop whose requests are used up: how long they take is known when they took it."""
    fields = yaml.safe_load(scenario.read_text())
    closed = {"arrivals": {"kind": "closed", "users": 1}, "duration": None, "requests": 3}
    scenario.write_text(yaml.safe_dump({**fields, **closed}))
    done = profile(tmp_path, "--scenario", scenario)
    assert done.exit_code == 2
    assert "ended before its warm-up of 2 s did" in done.stderr


_INTERRUPTED = """
import sys
import slipstream.profiling.nsys.serving as serving
serving.SERVE = (sys.executable, {answering!r})
from slipstream.cli import main
main(["profile", "nsys", "--scenario", {scenario!r}, "--duration", "50"])
"""


def test_ctrl_c_ends_the_load_and_what_was_captured_is_read(nsys: Nsys, scenario: Path, tmp_path: Path) -> None:
    script = _INTERRUPTED.format(answering=str(ANSWERING), scenario=str(scenario))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "SLIPSTREAM_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        samples = "reports/*/nsys/load/samples.jsonl"
        deadline = time.monotonic() + 120
        while not any(path.read_text().count("\n") > 90 for path in tmp_path.glob(samples)):  # 2 s of warm-up have 40
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of the foreground
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "whole requests of" in out
    assert captured(tmp_path).reading.is_file()
    assert f"slipstream-{process.pid}" not in nsys.run("sessions", "list")


@pytest.fixture
def running(nsys: Nsys, tmp_path: Path) -> Iterator[tuple[Session, str]]:
    """A server that somebody began in a session of nsys."""
    session = Session(nsys, "slipstream-standing")
    process, said = None, b""
    for _ in range(3):  # see `serving` for what may be wrong with the first one
        process = subprocess.Popen([*session.launcher, sys.executable, str(ANSWERING)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        if said := process.stdout.readline():
            break
        process.communicate(timeout=30)
    assert process is not None
    yield session, json.loads(said)["ready"]["url"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    session.close()


def test_a_server_in_a_session_is_captured_and_goes_on(
    running: tuple[Session, str], scenario: Path, tmp_path: Path
) -> None:
    session, url = running
    options = ("--scenario", scenario, "--duration", 2, "--url", url, "--session")
    assert "has no session 'another'" in profile(tmp_path, *options, "another").stderr
    for folder in (tmp_path / "reports").iterdir():
        assert not (folder / "nsys" / "capture.nsys-rep").exists()
    done = profile(tmp_path, *options, session.name, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"]["answered"] > 5
    session.check()
