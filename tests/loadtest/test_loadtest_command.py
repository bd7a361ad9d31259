"""``slipstream loadtest`` as its user runs it: a process of its own against a server of known truth."""

import json
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.loadtest import command_line
from tests.loadtest.command_line import folder_in
from tests.loadtest.conftest import write_scenario
from tests.loadtest.scripted import scripted, take_request

HELD = [{"metric": "ttft", "bound_ms": 1000}]
MISSED = [{"metric": "ttft", "bound_ms": 1}]


start, finished = partial(command_line.start, "loadtest"), partial(command_line.finished, "loadtest")
refused = partial(command_line.refused, "loadtest")


def proven(folder: Path, **fields: Any) -> Path:
    """A scenario long enough for 59 requests without a miss; the lag of a busy machine does not make it void."""
    long = {"arrivals": {"kind": "constant", "rate": 40}, "duration": 2.0, "max_lag_ms": 10_000}
    return write_scenario(folder, **{**long, "slos": HELD, **fields})


def test_a_load_that_holds_its_slo_passes_and_leaves_every_file(tmp_path: Path, mock_host: str) -> None:
    code, out, err = finished(tmp_path / "home", proven(tmp_path), "--url", mock_host)
    assert code == 0, out + err
    assert out.startswith("PASS\n")
    assert "0 of 80 requests missed p95 TTFT ≤ 1000 ms: proven" in out
    folder = folder_in(tmp_path / "home")
    written = {path.name for path in folder.iterdir()}
    assert {
        "plan.json",
        "run.json",
        "samples.jsonl",
        "result.json",
        "junit.xml",
        "requests.csv",
        "report.html",
    } <= written
    assert json.loads((folder / "result.json").read_text())["verdict"] == "PASS"
    assert ' failures="0"' in (folder / "junit.xml").read_text()
    page = (folder / "report.html").read_text()
    assert mock_host in page
    assert f"slipstream loadtest {tmp_path}" in page  # the exact command


def test_a_missed_slo_is_exit_code_1_and_json_is_one_document(tmp_path: Path, mock_host: str) -> None:
    code, out, _ = finished(tmp_path / "home", proven(tmp_path, slos=MISSED), "--url", mock_host, "--json")
    assert code == 1
    assert json.loads(out)["verdict"] == "FAIL"


def test_too_few_requests_leave_it_open_with_exit_code_3(tmp_path: Path, mock_host: str) -> None:
    code, out, _ = finished(tmp_path / "home", proven(tmp_path), "--url", mock_host, "--requests", 40)
    assert code == 3
    assert out.startswith("INCONCLUSIVE\n")
    assert "more without a miss would prove it" in out


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_the_load_and_judge_what_ran(
    tmp_path: Path, mock_host: str, kind: signal.Signals
) -> None:
    with start(tmp_path / "home", proven(tmp_path, duration=60), "--url", mock_host) as process:
        await_samples(tmp_path / "home")
        process.send_signal(kind)
        out, err = process.communicate(timeout=30)
    assert process.returncode in (0, 3), out + err
    folder = folder_in(tmp_path / "home")
    assert "stopped after" in (folder / "report.html").read_text()
    assert json.loads((folder / "result.json").read_text())["metrics"]["counts"]["ok"] > 0


def test_a_run_that_was_killed_is_concluded_later(tmp_path: Path, mock_host: str) -> None:
    with start(tmp_path / "home", proven(tmp_path, duration=60), "--url", mock_host) as process:
        await_samples(tmp_path / "home")
        process.kill()
    folder = folder_in(tmp_path / "home")
    await_the_generators_end(folder)  # nobody reads what it says any more
    assert not (folder / "report.html").exists()
    code, out, err = finished(tmp_path / "home", "--from", folder)
    assert code in (0, 3), out + err
    assert "stopped after" in (folder / "report.html").read_text()


MEASURED_AFTER = 60  # samples: two seconds of arrivals, the warm-up and the first that is measured among them


def await_samples(home: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(len(path.read_bytes().splitlines()) > MEASURED_AFTER for path in home.glob("reports/*/samples.jsonl")):
            return
        time.sleep(0.1)
    raise AssertionError("no sample was written")


def await_the_generators_end(folder: Path) -> None:
    deadline = time.monotonic() + 15
    while any(str(folder) in " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline, "the generator goes on by itself"
        time.sleep(0.1)


def test_nothing_is_sent_where_nothing_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, _, err = finished(tmp_path / "home", proven(tmp_path), "--url", f"http://127.0.0.1:{port}")
    assert code == 2
    assert "nothing answers at" in err
    assert "slipstream serve" in err
    assert not (tmp_path / "home" / "reports").exists()


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://127.0.0.1"])
def test_what_is_no_address_is_said(tmp_path: Path, url: str) -> None:
    assert "is no address" in refused(tmp_path / "home", proven(tmp_path), "--url", url)


def test_a_load_without_a_rate_takes_none(tmp_path: Path, mock_host: str) -> None:
    closed = proven(tmp_path, arrivals={"kind": "closed", "users": 2})
    said = refused(tmp_path / "home", closed, "--url", mock_host, "--rate", 3)
    assert "closed arrivals, which have no rate" in said


def test_what_a_run_was_is_not_changed_afterwards(tmp_path: Path) -> None:
    assert "leave out: rate" in refused(tmp_path / "home", "--from", tmp_path, "--rate", 3, "--json")


def test_a_servers_key_is_sent_and_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, heads = "a-key-of-somebody", list[str]()
    monkeypatch.setenv("SLIPSTREAM_LOADTEST_API_KEY", key)

    def script(connection: socket.socket) -> None:
        while head := take_request(connection)[0]:
            heads.append(head)
            body = b'{"error": {"message": "not yours"}}'
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with scripted(script) as server:
        code, out, err = finished(tmp_path / "home", proven(tmp_path, slos=[]), "--url", server.host)
    assert (code, "80 client_error" in out) == (1, True), out + err
    asked = [head for head in heads if head.startswith("POST ")]
    assert len(asked) == 100
    assert all(f"Authorization: Bearer {key}\r\n" in head for head in asked)
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file() and key in path.read_text()]


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    assert "holds no load test" in refused(tmp_path / "home", "--from", tmp_path)
