"""`slipstream doctor` as a user runs it."""

import json
import os
import pty
import resource
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main
from slipstream.ensemble.doctor.checks import CHECKS
from tests.ensemble.doctor.homes import write_bundle

FREE_PORTS = {
    "SLIPSTREAM_PORT": "0",
    "SLIPSTREAM_TRITON_HTTP_PORT": "0",
    "SLIPSTREAM_TRITON_GRPC_PORT": "0",
    "SLIPSTREAM_TRITON_METRICS_PORT": "0",
}


def doctor(home: Path, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], env={"SLIPSTREAM_HOME": str(home), **FREE_PORTS, **env})


def findings(result: Result) -> dict[str, dict[str, Any]]:
    document = json.loads(result.stdout)
    assert document["ready"] == (result.exit_code == 0)
    return {found["check"]: found for found in document["findings"]}


def contents(folder: Path) -> dict[str, str]:
    """Every path below ``folder``, with the digest of a file."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


@pytest.mark.usefixtures("shard")
def test_a_machine_that_can_answer(home: Path) -> None:
    result = doctor(home, "--json")
    found = findings(result)
    assert [*found] == [check.__name__ for check in CHECKS]
    assert [one for one in found.values() if one["state"] == "problem"] == []
    assert result.exit_code == 0
    for one in found.values():
        assert one["evidence"]
        assert bool(one["remedy"]) == (one["state"] in ("warning", "problem")), one


@pytest.mark.usefixtures("shard")
def test_it_changes_nothing(home: Path) -> None:
    before = contents(home)
    doctor(home)
    assert contents(home) == before


def test_an_empty_machine_is_told_what_to_do_and_nothing_is_made(tmp_path: Path) -> None:
    result = doctor(tmp_path / "home")
    assert result.exit_code == 1
    assert "slipstream build" in result.output
    assert "slipstream index" in result.output
    assert "2 problems" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "loop", "too long"])
def test_a_home_that_cannot_be_is_a_report_and_no_traceback(tmp_path: Path, kind: str) -> None:
    home = tmp_path / ("h" * 300 if kind == "too long" else "home")
    if kind == "file":
        home.write_text("")
    if kind == "loop":
        home.symlink_to(home)
    result = doctor(home, "--json")
    assert result.exit_code == 1
    found = findings(result)
    assert found["disk"]["state"] == "problem"
    assert "SLIPSTREAM_HOME" in found["disk"]["evidence"] + found["disk"]["remedy"]
    assert "the check itself failed" not in result.stdout


def test_a_disk_that_hangs_keeps_no_other_check_from_being_told(tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for it."""
    (tmp_path / "bundles").mkdir()
    os.mkfifo(tmp_path / "bundles" / "ACTIVE")
    # A process of its own: the thread that hangs would hold the one that runs the tests.
    ran = subprocess.run(
        [sys.executable, "-m", "slipstream.cli", "doctor", "--json"],
        env={**os.environ, **FREE_PORTS, "SLIPSTREAM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = {one["check"]: one for one in json.loads(ran.stdout)["findings"]}
    assert found["bundle"]["state"] == "problem"
    assert "no answer within" in found["bundle"]["evidence"]
    assert found["disk"]["state"] in ("ok", "warning")
    assert found["registry"]["state"] == "warning"


def test_services_that_keep_silent_together_are_told_and_not_waited_for(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = monotonic()
        found = findings(doctor(home, "--json", MLFLOW_TRACKING_URI=place, QDRANT_URL=place))
        assert monotonic() - started < 15
    assert (found["registry"]["state"], found["index"]["state"]) == ("warning", "problem")


def test_a_damaged_bundle_is_a_problem_and_exit_code_1(home: Path) -> None:
    (weights,) = home.glob("bundles/*/engine/weights.bin")
    weights.unlink()
    result = doctor(home, "--json")
    assert result.exit_code == 1
    assert "weights.bin is missing" in findings(result)["bundle"]["evidence"]


@pytest.mark.usefixtures("shard")
def test_a_bundle_can_be_named(home: Path) -> None:
    assert findings(doctor(home, "test-v0-tiny-none-p1", "--json"))["bundle"]["state"] == "ok"
    assert findings(doctor(home, "another", "--json"))["bundle"]["state"] == "problem"


def test_warnings_alone_are_no_failure(home: Path, shard: Path) -> None:
    result = doctor(home, "--json", MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert findings(result)["registry"]["state"] == "warning"
    assert result.exit_code == 0


def test_a_wrong_setting_is_an_error_of_the_caller(home: Path) -> None:
    result = doctor(home, SLIPSTREAM_PORT="eighty")
    assert result.exit_code == 2
    assert "SLIPSTREAM_PORT" in result.stderr


def test_no_password_is_printed(home: Path) -> None:
    secrets = {
        "MLFLOW_TRACKING_URI": "http://user:hunter2@127.0.0.1:1",
        "QDRANT_URL": "http://user:hunter2@127.0.0.1:1",
        "QDRANT_API_KEY": "hunter2",
    }
    for arguments in ([], ["--json"]):
        result = doctor(home, *arguments, **secrets)
        assert "127.0.0.1:1" in result.output
        assert "hunter2" not in result.output


def test_a_bundle_that_needs_a_gpu_has_problems_here_and_no_traceback(tmp_path: Path) -> None:
    """Whatever this machine has, it is not the container that TensorRT-LLM needs."""
    write_bundle(tmp_path, gpus={"gpu": "h100"})
    result = doctor(tmp_path, "--json")
    assert result.exit_code == 1
    found = findings(result)
    assert found["tensorrt_llm"]["state"] == "problem"
    assert found["gpu"]["state"] in ("ok", "problem")


def test_few_open_files_are_told_and_the_report_is_made_with_them(home: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    ran = subprocess.run(
        [sys.executable, "-m", "slipstream.cli", "doctor", "--json"],
        env={**os.environ, **FREE_PORTS, "SLIPSTREAM_HOME": str(home)},
        preexec_fn=few,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = {one["check"]: one for one in json.loads(ran.stdout)["findings"]}
    assert found["open_files"]["state"] == "problem"
    assert "200 files" in found["open_files"]["evidence"]
    assert ran.stderr == ""


def test_colours_are_for_terminals(home: Path) -> None:
    command = [sys.executable, "-m", "slipstream.cli", "doctor"]
    env = {**os.environ, **FREE_PORTS, "SLIPSTREAM_HOME": str(home), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    piped = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert b"\x1b[" not in piped.stdout

    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        process.wait(60)
    assert b"\x1b[32m" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side has gone
        return b""


def test_what_steers_a_terminal_is_spelled_out(tmp_path: Path) -> None:
    home = tmp_path / "ho\x1b[31mme"
    result = doctor(home)
    assert "\x1b" not in result.output
    assert "\\x1b" in result.output
