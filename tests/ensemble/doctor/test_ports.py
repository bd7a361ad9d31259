"""Ports that real processes hold, and the server of this home, which has its ports by right."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipstream.ensemble.doctor.finding import Subject
from slipstream.ensemble.doctor.ports import holder_of, ports
from tests.ensemble.doctor.homes import settings_of

LISTEN = """
import fcntl, pathlib, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
lock = pathlib.Path(sys.argv[1])
lock.parent.mkdir(parents=True, exist_ok=True)
held = lock.open("w")
fcntl.flock(held, fcntl.LOCK_EX)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(lock: Path) -> Iterator[tuple[int, int]]:
    """Process id and port of a process that listens, and holds ``lock`` as a server holds that of its home."""
    command = [sys.executable, "-c", LISTEN, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.terminate()


@pytest.fixture
def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("name", ["port", "triton_http_port", "triton_grpc_port", "triton_metrics_port"])
def test_a_port_of_another_process_is_a_problem_that_names_it(tmp_path: Path, name: str) -> None:
    with listening(tmp_path / "its" / "lock") as (pid, port):
        found = ports(Subject(settings_of(tmp_path / "home", **{name: port})))
    assert found.state == "problem"
    assert str(port) in found.evidence
    assert f"process {pid}" in found.evidence
    assert "SLIPSTREAM_TRITON_HTTP_PORT" in found.remedy


def test_a_port_of_this_homes_server_is_none(tmp_path: Path) -> None:
    with listening(tmp_path / "repository" / ".lock") as (pid, port):
        found = ports(Subject(settings_of(tmp_path, port=port)))
    assert found.state == "ok"
    assert f"process {pid}" in found.evidence


def test_a_strangers_port_beside_this_homes_server_is_still_a_problem(tmp_path: Path) -> None:
    with listening(tmp_path / "repository" / ".lock") as (_, ours), listening(tmp_path / "other") as (pid, theirs):
        found = ports(Subject(settings_of(tmp_path, port=ours, triton_grpc_port=theirs)))
    assert found.state == "problem"
    assert f"process {pid}" in found.evidence


def test_free_ports_are_fine(tmp_path: Path, free: int) -> None:
    found = ports(Subject(settings_of(tmp_path, port=free)))
    assert found.state == "ok"
    assert str(free) in found.evidence
    assert "any free one" in found.evidence


def test_a_port_that_is_wanted_twice(tmp_path: Path, free: int) -> None:
    found = ports(Subject(settings_of(tmp_path, port=free, triton_http_port=free)))
    assert found.state == "problem"
    assert "wanted twice" in found.evidence


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"], ids=["another machine's", "no address"])
def test_an_address_that_is_not_this_machines(tmp_path: Path, free: int, host: str) -> None:
    assert ports(Subject(settings_of(tmp_path, host=host, port=free))).state == "problem"


def test_the_holder_of_a_lock_is_asked_without_disturbing_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert holder_of(lock) is None
    with listening(lock) as (pid, _):
        assert holder_of(lock) == pid
    assert holder_of(lock) is None
    assert holder_of(lock) != os.getpid()
