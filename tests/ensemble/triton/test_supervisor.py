"""The supervisor over a stand-in for Triton, whose ends and log lines are made on purpose. The real one is in
`tests/integration`."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from slipstream import EnvironmentFault
from slipstream.ensemble.triton import supervisor as module
from slipstream.ensemble.triton.claims import HomeUnwritable
from slipstream.ensemble.triton.log import TritonLog
from slipstream.ensemble.triton.process import Installation, TritonProcess
from slipstream.ensemble.triton.supervisor import Supervisor
from slipstream.settings import Settings

# One child as a model's process; it answers as long as no file `hang` is there; its first start has an error to tell.
STAND_IN = """
import http.server, pathlib, subprocess, sys, time

folder = pathlib.Path(sys.argv[2])
if not (folder / "started").exists():
    (folder / "started").touch()
    print('E1121 10:00:00.000000 1 model.cc:1] "the first start stumbled"', flush=True)
child = subprocess.Popen(["sleep", "60"])

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while (folder / "hang").exists():
            time.sleep(0.05)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", triton_http_port=0, triton_grpc_port=0, triton_metrics_port=0)


@pytest.fixture
def supervisor(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    def command(_installation: object, _repository: object, _backends: object, ports: Any, _prefix: str) -> list[str]:
        return [sys.executable, "-c", STAND_IN, str(ports.http), str(tmp_path)]

    def write_backends(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return folder

    monkeypatch.setattr(Installation, "find", lambda: SimpleNamespace(write_backends=write_backends))
    monkeypatch.setattr(module, "command", command)
    monkeypatch.setattr(module, "environment", lambda *_: dict(os.environ))
    monkeypatch.setattr(module, "write_repository", lambda _, folder: folder)
    monkeypatch.setattr(module, "backend_environment", lambda _: {})
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.4)
    supervisor = Supervisor(None, settings)  # type: ignore[arg-type]
    yield supervisor
    supervisor.stop()


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, "it did not happen"
        sleep(0.01)


def kill_model(supervisor: Supervisor) -> None:
    child = psutil.Process(supervisor.pids()[0]).children()[0]
    supervisor.failure = ""
    child.kill()
    wait_until(lambda: bool(supervisor.failure))


class TestUgly:
    @pytest.mark.parametrize("trouble", ["a dead model", "hung"])
    def test_what_cannot_be_saved_is_killed_and_not_asked_to_end(
        self, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
    ) -> None:
        asked: list[int] = []
        orderly = TritonProcess.stop
        monkeypatch.setattr(TritonProcess, "stop", lambda process: (asked.append(process.pid), orderly(process)))
        monkeypatch.setattr(module, "HUNG_AFTER_S", 0.5)
        supervisor.start()
        assert supervisor.wait_ready()
        before = supervisor.pids()
        if trouble == "hung":
            (tmp_path / "hang").touch()
            wait_until(lambda: "did not answer" in supervisor.failure)
            (tmp_path / "hang").unlink()
        else:
            kill_model(supervisor)
        wait_until(lambda: supervisor.state == "restarting")
        wait_until(lambda: supervisor.state == "ready")
        assert not set(before) & set(supervisor.pids())
        assert asked == []
        (after, *_) = supervisor.pids()
        supervisor.stop()
        assert asked == [after]

    def test_the_reason_is_not_taken_from_an_earlier_start(self, supervisor: Supervisor) -> None:
        supervisor.start()
        assert supervisor.wait_ready()
        kill_model(supervisor)
        assert "the first start stumbled" in supervisor.failure
        wait_until(lambda: supervisor.state == "restarting")
        wait_until(lambda: supervisor.state == "ready")
        kill_model(supervisor)
        assert "a model's process died" in supervisor.failure
        assert "stumbled" not in supervisor.failure

    @pytest.mark.parametrize("in_the_way", ["repository", "repository/.lock", "repository/backends"])
    def test_a_home_that_takes_no_files_is_told_with_a_remedy(
        self, supervisor: Supervisor, settings: Settings, in_the_way: str
    ) -> None:
        path = settings.root / in_the_way
        path.parent.mkdir(parents=True)
        if path.name == ".lock":
            path.mkdir()
        else:
            path.touch()
        with pytest.raises(HomeUnwritable, match=path.name) as refused:
            supervisor.start()
        assert isinstance(refused.value, EnvironmentFault)
        assert "SLIPSTREAM_HOME" in refused.value.remedy

    def test_a_disk_that_fills_up_between_two_starts_is_a_failure_that_is_told(
        self, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        supervisor.start()
        assert supervisor.wait_ready()
        monkeypatch.setattr(module, "TritonProcess", full)
        kill_model(supervisor)
        wait_until(lambda: supervisor.state == "failed")
        assert "No space left on device" in supervisor.failure


class TestLog:
    ERROR = 'E1121 10:00:00.000000 1 model.cc:1] "{}"\n'

    def test_without_a_file_there_is_no_error(self, tmp_path: Path) -> None:
        log = TritonLog(tmp_path / "triton.log")
        log.cut()
        log.begin()
        assert log.last_error() == ""

    def test_the_last_error_of_the_running_start(self, tmp_path: Path) -> None:
        log = TritonLog(tmp_path / "triton.log")
        log.path.write_text(self.ERROR.format("old"))
        log.begin()
        assert log.last_error() == ""
        with log.path.open("a") as file:
            file.write(self.ERROR.format("first") + self.ERROR.format("last") + self.ERROR.format("no CUDA device"))
            file.write("I1121 10:00:00.000000 1 model.cc:1] fine\n")
        assert log.last_error() == "last"

    def test_a_log_that_restarts_made_long_is_cut(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("slipstream.ensemble.triton.log.MOST_BYTES", 1000)
        log = TritonLog(tmp_path / "triton.log")
        for _ in range(100):
            log.begin()
            with log.path.open("a") as file:
                file.write(self.ERROR.format("x" * 100))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000
        assert log.last_error() == "x" * 100
