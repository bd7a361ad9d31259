"""``slipstream compare`` as its user runs it: against two servers of known truth, and given what cannot be."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slipstream.cli import main
from slipstream.loadtest.comparison.record import Record
from tests.loadtest import command_line
from tests.loadtest.command_line import folder_in
from tests.loadtest.comparison.recorded import ran
from tests.loadtest.conftest import ROOT, write_scenario

RIGHT = "SessionMiddleware keeps it in a signed cookie"


@contextmanager
def mock(**always: Any) -> Iterator[str]:
    """A server that answers in its own way, whatever it is asked."""
    command = [sys.executable, "-m", "tests.loadtest.mock_server", "--always", json.dumps(always)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def short(folder: Path, **fields: Any) -> Path:
    """A run of about a second; the lag of a busy machine does not make it void."""
    quick = {"arrivals": {"kind": "poisson", "rate": 40}, "warmup": 0.1, "duration": 0.6, "max_lag_ms": 10_000}
    return write_scenario(folder, **{**quick, **fields})


start, finished = partial(command_line.start, "compare"), partial(command_line.finished, "compare")


def test_two_servers_are_run_in_turn_and_every_run_is_kept(tmp_path: Path) -> None:
    question = "Where is session data kept between requests, and how is it protected against tampering?"
    home = tmp_path / "home"
    with mock(first_s=0.02, chunks=4, texts={question: RIGHT}) as a, mock(first_s=0.15, chunks=4) as b:
        code, out, err = finished(home, a, b, "--scenario", short(tmp_path), "--rounds", 2)
    assert code == 3, out + err
    assert out.startswith("INCONCLUSIVE")
    assert "4 runs of 0.7 s" in err  # what it is going to take
    folder = folder_in(home)
    said = json.loads((folder / "comparison.json").read_text())
    runs = said["runs"]
    assert [(run["round"], run["letter"], run["seed"]) for run in runs] == [
        (1, "A", 132), (1, "B", 132), (2, "B", 133), (2, "A", 133),
    ]  # fmt: skip
    assert all((folder / run["folder"] / "result.json").is_file() for run in runs)
    plans = {run["letter"]: (folder / run["folder"] / "plan.json").read_bytes() for run in runs[:2]}
    assert plans["A"] == plans["B"]
    ttft = next(one for one in said["outcome"]["compared"] if one["measure"]["key"] == "ttft_p50")
    assert 0.02 < ttft["effect"]["before"] / 1e3 < 0.14 < ttft["effect"]["after"] / 1e3
    passed = {run["letter"]: run["values"]["golden_text_rate"] for run in runs}
    assert passed["A"] > passed["B"] == 0
    assert runs[0]["questions"]["session-cookie"] == 1
    assert len((folder / runs[0]["folder"] / "golden.jsonl").read_text().splitlines()) == 30
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_a_server_is_told_from_itself_by_seeds_of_its_own_and_json_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPSTREAM_HOME", str(tmp_path / "home"))
    with mock() as url:
        given = [url, url, "--scenario", str(short(tmp_path)), "--rounds", "1", "--golden", "none", "--json"]
        done = CliRunner().invoke(main, ["compare", *given])
    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    assert [run["seed"] for run in said["runs"]] == [132, 133]
    assert "one server" in said["notes"][0]
    assert done.stderr == ""


def await_runs(home: Path, complete: int) -> None:
    """Until so many runs are complete and the next one sends."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = [json.loads(path.read_text()) for path in home.glob("reports/*/comparison.json")]
        begun = list(home.glob("reports/*/round-*/samples.jsonl"))
        if records and len(records[0]["runs"]) >= complete and len(begun) > complete:
            return
        time.sleep(0.05)
    raise AssertionError("no run was complete")


def test_ctrl_c_concludes_the_complete_rounds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mock() as a, mock() as b:
        options = (a, b, "--scenario", short(tmp_path, duration=2), "--rounds", 50)
        with start(home, *options) as process:
            await_runs(home, 2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    assert "1 of 50 rounds are complete" in out
    assert (folder_in(home) / "report.html").exists()


def test_what_was_killed_is_concluded_from_its_folder_and_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("SLIPSTREAM_HOME", str(home))
    with mock() as a, mock() as b:
        with start(home, a, b, "--scenario", short(tmp_path), "--rounds", 2) as process:
            await_runs(home, 2)
            process.kill()
        folder = folder_in(home)
        assert not (folder / "report.html").exists()
        done = CliRunner().invoke(main, ["compare", "--from", str(folder)])
        assert done.exit_code == 3, done.output
        assert "1 of 2 rounds are complete" in done.output
        assert (folder / "report.html").exists()
        done = CliRunner().invoke(main, ["compare", "--from", str(folder), "--rounds", "2"])
    assert done.exit_code == 3, done.output
    assert [(a.round, b.round) for a, b in Record.read(folder).pairs()] == [(1, 1), (2, 2)]
    assert len(Record.read(folder).runs) == 4  # what was complete did not run again


def test_a_run_that_is_void_again_and_again_ends_it_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("SLIPSTREAM_HOME", str(home))
    monkeypatch.setattr("slipstream.loadtest.comparison.rounds._ATTEMPTS", 2)
    with mock() as a, mock() as b:
        given = [a, b, "--scenario", str(short(tmp_path, max_lag_ms=1e-6)), "--requests", "12", "--rounds", "1"]
        done = CliRunner().invoke(main, ["compare", *given])
    assert done.exit_code == 2
    assert "void 2 times" in done.output
    assert "--from" in done.output
    assert [run.status for run in Record.read(folder_in(home)).runs] == ["void"] * 2


@pytest.mark.parametrize(
    ("slower", "golden", "code", "word"),
    [(1.3, 0.6, 1, "REGRESSION"), (0.7, 0.6, 0, "BETTER"), (0.7, 0.5, 1, "REGRESSION"), (1.0, 0.6, 0, "NO WORSE")],
)
def test_the_exit_code_is_the_verdict(tmp_path: Path, slower: float, golden: float, code: int, word: str) -> None:
    ran(tmp_path, slower=slower, golden=golden)
    done = CliRunner().invoke(main, ["compare", "--from", str(tmp_path)])
    assert (done.exit_code, done.output.split(" at ")[0]) == (code, word), done.output


def test_another_margin_is_another_question(tmp_path: Path) -> None:
    ran(tmp_path, slower=1.3)
    done = CliRunner().invoke(main, ["compare", "--from", str(tmp_path), "--margin", "40%"])
    assert done.exit_code == 0, done.output
    assert "by more than 40%" in done.output


def refused(*options: object) -> str:
    """What is said of options that cannot be."""
    done = CliRunner().invoke(main, ["compare", *map(str, options)])
    assert done.exit_code == 2, done.output
    return done.output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPSTREAM_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "bundles" / "aaaa1111"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps({"id": "aaaa1111", "release_name": "one"}))
    return tmp_path / "home"


def test_what_cannot_run_is_said_before_anything_is_sent(home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert "A and B" in refused("aaaa")
    assert "aaaa1111 (one)" in refused("aaaa", "zzzz")
    assert "nothing answers at" in refused("aaaa", away)
    assert "there is no scenario" in refused("aaaa", "aaaa", "--scenario", "nope")
    assert "have no rate" in refused("aaaa", "aaaa", "--scenario", "closed-8", "--rate", 3)
    assert "is no share" in refused("aaaa", "aaaa", "--margin", "5")
    assert "is no share" in refused("aaaa", "aaaa", "--margin", "0%")
    assert "--rounds" in refused("aaaa", "aaaa", "--rounds", 0)
    assert "there is no golden set" in refused("aaaa", "aaaa", "--golden", "sample:nope")
    assert "none after its warm-up" in refused("aaaa", "aaaa", "--scenario", short(tmp_path), "--requests", 1)
    assert not (home / "reports").exists()


def test_from_takes_a_comparison_and_nothing_that_would_change_it(tmp_path: Path) -> None:
    ran(tmp_path, rounds=3)
    assert "holds no comparison" in refused("--from", tmp_path / "nowhere")
    assert "--from goes with" in refused("--from", tmp_path, "--seed", 3)
    assert "--from goes with" in refused("a", "b", "--from", tmp_path)
    assert "3 rounds were begun" in refused("--from", tmp_path, "--rounds", 2)
    (tmp_path / "comparison.json").write_text('{"format": 2}')
    assert "its format is 2" in refused("--from", tmp_path)


def test_a_comparison_without_a_complete_round_says_how_to_go_on(tmp_path: Path) -> None:
    begun = ran(tmp_path, rounds=1)
    Record(**{**{name: getattr(begun, name) for name in begun.__dataclass_fields__}, "runs": begun.runs[:1]}).write()
    assert "both of its runs" in refused("--from", tmp_path)
