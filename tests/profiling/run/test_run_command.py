"""``slipstream profile run`` as its user runs it: a process of its own against a server of known truth."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loadtest import command_line
from tests.loadtest.command_line import folder_in
from tests.loadtest.conftest import ROOT, write_scenario
from tests.loadtest.scripted import answering, scripted
from tests.loadtest.test_loadtest_command import await_samples

SLOW = {"chunks": 6, "rate": 100, "first_s": 0.2, "stages": {"embed": 0.2, "retrieve": 0.8}}


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.loadtest.mock_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as mock:
        assert mock.stdout is not None
        yield f"http://127.0.0.1:{int(mock.stdout.readline())}"
        mock.terminate()


def finished(home: Path, *options: object) -> tuple[int, str, str]:
    return command_line.finished("profile", home, "run", *options)


def asked(folder: Path, **fields: Any) -> Path:
    given = {"arrivals": {"kind": "constant", "rate": 20}, "extra_body": {"mock": SLOW}}
    return write_scenario(folder, **(given | fields))


def test_a_profile_names_the_slow_stage_and_leaves_every_file(tmp_path: Path, host: str) -> None:
    code, out, err = finished(tmp_path / "home", asked(tmp_path), "--url", host)
    assert code == 0, out + err
    assert "The search of the collection is slow" in out
    assert "slipstream search" in out  # what to do
    folder = folder_in(tmp_path / "home")
    assert folder.name.startswith("profile-")
    written = {path.name for path in folder.iterdir()}
    assert {"timeline.jsonl", "telemetry.jsonl", "profile.json", "report.html", "trace.json", "plan.json"} <= written
    said = json.loads((folder / "profile.json").read_text())
    assert said["requests"] == {"measured": 30, "failed": 0, "profiled": 30}
    assert said["agreement"]["joined"] == "one clock"
    least, _, most = said["agreement"]["accounted"]
    assert 0.5 < least <= most < 1.001  # a busy machine adds to what the client sees, and takes nothing from it
    first = json.loads((folder / "timeline.jsonl").read_text().splitlines()[0])
    assert [span[0] for span in first["timing"]["spans"]] == [
        "queue", "embed", "retrieve", *["decode"] * 5, "stream",
    ]  # fmt: skip
    names = {event["name"] for event in json.loads((folder / "trace.json").read_text())["traceEvents"]}
    assert {"request", "retrieve", "decode"} <= names
    again, drawn, err = finished(tmp_path / "home", "--from", folder, "--json")
    assert again == 0, err
    assert json.loads(drawn)["findings"] == said["findings"]


def test_ctrl_c_profiles_what_ran(tmp_path: Path, host: str) -> None:
    path = asked(tmp_path, duration=60, arrivals={"kind": "constant", "rate": 40})
    with command_line.start("profile", tmp_path / "home", "run", path, "--url", host) as process:
        await_samples(tmp_path / "home")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    assert "stopped after" in out
    assert (folder_in(tmp_path / "home") / "report.html").is_file()


def test_a_server_that_tells_no_stage_times_is_refused_before_anything_is_sent(tmp_path: Path, host: str) -> None:
    path = asked(tmp_path, extra_body={"mock": SLOW | {"tells": False}})
    code, out, err = finished(tmp_path / "home", path, "--url", host)
    assert (code, out) == (2, "")
    assert "tells no stage times" in err
    assert "slipstream loadtest loads any server" in err
    assert not (tmp_path / "home" / "reports").exists()


def test_a_server_that_answers_no_question_is_said_with_its_words(tmp_path: Path) -> None:
    refused = answering("404 Not Found", b'{"error": {"message": "no model slipstream"}}')
    with scripted(refused) as server:
        code, _, err = finished(tmp_path / "home", asked(tmp_path), "--url", server.host)
    assert code == 2
    assert "no model slipstream" in err


@pytest.mark.parametrize("options", [("--url", "http://127.0.0.1:9"), ("no-such-scenario",), ("--from", "/nowhere")])
def test_what_cannot_be_run_is_exit_code_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, _, err = finished(tmp_path / "home", *options)
    assert code == 2
    assert "error: " in err
    assert "Traceback" not in err


def test_what_a_profile_was_is_not_changed_afterwards(tmp_path: Path) -> None:
    code, _, err = finished(tmp_path / "home", "--from", tmp_path, "--rate", 3)
    assert code == 2
    assert "leave out: rate" in err
