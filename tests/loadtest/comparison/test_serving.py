"""A bundle's server for one run: started, waited for, stopped, whatever it does. A small program stands in for it."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipstream.loadtest.comparison.serving import ServerFailed, ask_once, served
from slipstream.loadtest.comparison.sides import Side
from slipstream.loadtest.schedule.planned import Planned
from slipstream.settings import Settings
from tests.loadtest.scripted import answering, event, scripted, take_request
from tests.loadtest.simulated import scenario

SIDE = Side("B", "aaaa", bundle="/bundles/aaaa1111", bundle_id="aaaa1111")
READY = 'print(\'{"ready": {"url": "http://127.0.0.1:9", "problem": null}}\', flush=True)'
WAIT = "import signal, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); time.sleep(60)"


HEAD = ("import json, os, sys", "sys.stderr.write(f'pid {os.getpid()}\\n')", "sys.stderr.flush()")


def stand_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    program = "\n".join([*HEAD, *lines])
    monkeypatch.setattr("slipstream.loadtest.comparison.serving.SERVE", (sys.executable, "-c", program))


def refused(folder: Path, match: str) -> str:
    """The remedy of what keeps `SIDE` from being served."""
    with (
        pytest.raises(ServerFailed, match=match) as raised,
        served(SIDE, Settings(home=folder), folder / "run", needs_collection=True),
    ):
        raise AssertionError("nothing was served")
    return raised.value.remedy or ""


def pid_in(folder: Path) -> int:
    return int((folder / "serve.log").read_text().split()[1])


def test_it_serves_that_bundle_on_free_ports_of_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "json.dump([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith('SLIPSTREAM_')}], sys.stderr)"
    stand_in(monkeypatch, told, "sys.stderr.flush()", READY, WAIT)
    with served(SIDE, Settings(home=tmp_path), tmp_path / "run", needs_collection=True) as url:
        assert url == "http://127.0.0.1:9"
        said = (tmp_path / "run" / "serve.log").read_text()
        assert '["--bundle", "/bundles/aaaa1111"]' in said
        assert f'"SLIPSTREAM_HOME": "{tmp_path}"' in said
        assert all(f'"SLIPSTREAM_TRITON_{name}_PORT": "0"' in said for name in ("HTTP", "GRPC", "METRICS"))
        assert psutil.pid_exists(pid_in(tmp_path / "run"))
    assert not psutil.pid_exists(pid_in(tmp_path / "run"))


def test_what_keeps_it_from_serving_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = {"error": {"message": "another server runs on /home", "remedy": "stop it"}}
    stand_in(monkeypatch, f"sys.stderr.write(json.dumps({error!r})); sys.exit(2)")
    assert refused(tmp_path, r"B \(aaaa1111\) cannot be served: another server runs") == "stop it"


def test_an_end_without_words_points_to_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, "print('no JSON {'); os._exit(1)")
    assert "serve.log" in refused(tmp_path, "cannot be served: pid")


def test_one_that_never_gets_ready_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("slipstream.loadtest.comparison.serving.READY_WITHIN_S", 1.0)
    stand_in(monkeypatch, WAIT)
    refused(tmp_path, "not ready within 1 s")
    assert not psutil.pid_exists(pid_in(tmp_path / "run"))


def test_one_that_cannot_answer_from_the_collection_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, READY.replace("null", '"it was made with another embedder"'), WAIT)
    refused(tmp_path, "another embedder")
    with served(SIDE, Settings(home=tmp_path), tmp_path / "base", needs_collection=False) as url:
        assert url


def test_one_that_does_not_stop_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("slipstream.loadtest.comparison.serving._STOPPED_WITHIN_S", 0.5)
    deaf = "import signal, time, subprocess; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    child = 'sys.stderr.write(f\'child {subprocess.Popen(["sleep", "60"]).pid}\\n\'); sys.stderr.flush()'
    stand_in(monkeypatch, deaf, child, READY, "time.sleep(60)")
    with served(SIDE, Settings(home=tmp_path), tmp_path / "run", needs_collection=True):
        started = psutil.Process(int((tmp_path / "run" / "serve.log").read_text().split()[3]))
        assert started.name() == "sleep"
    assert not psutil.pid_exists(pid_in(tmp_path / "run"))
    psutil.wait_procs([started], timeout=5)
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE


def test_it_ends_with_who_started_it(tmp_path: Path) -> None:
    """However that ends: nobody else would stop the server."""
    parent = tmp_path / "parent.py"
    server = "\n".join((*HEAD, READY, WAIT))
    parent.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "from slipstream.loadtest.comparison import serving\n"
        "from slipstream.loadtest.comparison.sides import Side\nfrom slipstream.settings import Settings\n"
        f"serving.SERVE = (sys.executable, '-c', {server!r})\n"
        "home = Path(sys.argv[1])\n"
        "with serving.served(Side('A', 'x', bundle='x'), Settings(home=home), home, needs_collection=False):\n"
        "    print('up', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, parent, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        started = psutil.Process(pid_in(tmp_path))
        process.kill()
    deadline = time.monotonic() + 10
    while started.is_running() and started.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server goes on by itself"
        time.sleep(0.05)


def test_a_server_that_runs_already_is_left_alone(tmp_path: Path) -> None:
    side = Side("A", "http://host:1", url="http://host:1")
    with served(side, Settings(home=tmp_path), tmp_path / "run", needs_collection=True) as url:
        assert url == "http://host:1"
    assert not (tmp_path / "run").exists()


ASKED = Planned(0, 0.0, "q", {"messages": [{"role": "user", "content": "Where?"}], "stream": True})


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        ("503 Service Unavailable", b'{"error": {"message": "the index is held"}}', "HTTP 503: the index is held"),
        ("500 Oh", b"what", "HTTP 500: what"),
        ("200 OK", b"<html>", "no events"),
        ("200 OK", b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        ("200 OK", b"data: [DONE]\n\n", "no content"),
    ],
)
def test_a_server_that_answers_no_question_is_not_loaded(status: str, body: bytes, told: str) -> None:
    with scripted(answering(status, body)) as server, pytest.raises(ServerFailed, match=told):
        ask_once(server.host, scenario(), ASKED)


def test_one_that_answers_is() -> None:
    said = event({"choices": [{"delta": {"content": "Here."}}]})
    with scripted(answering("200 OK", said)) as server:
        ask_once(server.host, scenario(), ASKED)
    with pytest.raises(ServerFailed, match="does not answer"):
        ask_once(server.host, scenario(), ASKED)


def test_a_server_with_a_key_is_asked_with_it_and_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_LOADTEST_API_KEY", "a-key-of-somebody")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    heads: list[str] = []
    body = event({"choices": [{"delta": {"content": "Here."}}]})

    def script(connection: socket.socket) -> None:
        heads.append(take_request(connection)[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with scripted(script) as server:
        ask_once(server.host, scenario(), ASKED)
    assert "Authorization: Bearer a-key-of-somebody\r\n" in heads[0]
