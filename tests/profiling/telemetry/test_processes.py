"""Whose processes they are, what each is for, and what becomes of those that end or are another user's."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil
import pytest
from psutil._pslinux import Process as LinuxProcess  # what psutil asks the kernel with

from slipstream.profiling.telemetry import processes as module
from slipstream.profiling.telemetry.processes import Processes, role_of, server_processes
from slipstream.profiling.telemetry.records import Process

Start = Callable[..., "subprocess.Popen[str]"]
SLEEP = "import time; print('up', flush=True); time.sleep(60)"
BUSY = "print('up', flush=True)\nwhile True: pass"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start this Python under any command line; every look walks the tree anew."""
    monkeypatch.setattr(module, "_REFRESH_S", 0.0)
    started: list[subprocess.Popen[str]] = []

    def run(*command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(command, executable=sys.executable, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield run
    for process in started:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def starting(*command: str, then: str = SLEEP) -> str:
    """A program that starts another, waits until that is up, and goes on."""
    return (
        "import subprocess\n"
        f"child = subprocess.Popen({list(command)!r}, executable={sys.executable!r}, stdout=subprocess.PIPE)\n"
        f"child.stdout.readline()\n{then}"
    )


def until(looked: Callable[[], bool]) -> None:
    deadline = perf_counter() + 60
    while not looked():
        assert perf_counter() < deadline
        sleep(0.02)


def test_roles_of_a_server_are_read_from_its_tree(start: Start, tmp_path: Path) -> None:
    stubs = []
    for model in ("embedder", "retriever", "generator"):
        program = tmp_path / "models" / model / "1" / "model.py"
        program.parent.mkdir(parents=True)
        engine = starting("python", "-c", SLEEP, "-m", "slipstream.engines.openvino.worker")
        program.write_text(engine if model == "generator" else SLEEP)
        stubs.append(["triton_python_backend_stub", str(program), "slipstream-1-8001-"])
    triton = starting(*stubs[0], then=starting(*stubs[1], then=starting(*stubs[2])))
    root = start("python", "-c", starting("/opt/tritonserver", "-c", triton))
    looks = Processes({root.pid: "facade"}).look()
    assert sorted(one.role for one in looks) == ["embedder", "engine", "facade", "generator", "retriever", "triton"]
    assert looks[0].pid == root.pid
    for one in looks:
        assert one.threads == 1
        assert one.resident_bytes == pytest.approx(psutil.Process(one.pid).memory_info().rss, rel=0.1)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["/usr/bin/setpriv", "--pdeathsig", "KILL", "tritonserver"], "facade"),
        (["/x/bin/tritonserver", "--model-repository=/var/m"], "triton"),
        (["/x/triton_python_backend_stub", "/var/m/retriever/1/model.py", "prefix"], "retriever"),
        (["triton_python_backend_stub"], "facade"),
        (["triton_python_backend_stub", "model.py"], "facade"),
        (["python", "-m", "slipstream.engines.openvino.worker", "/b"], "engine"),
        ([], "facade"),
    ],
)
def test_a_command_line_says_what_a_process_is_for(command: list[str], role: str) -> None:
    assert role_of(command, parent="facade") == role


def test_a_busy_process_has_a_core_and_an_idle_one_none(start: Start) -> None:
    busy, idle = start("python", "-c", BUSY), start("python", "-c", SLEEP)
    processes = Processes({busy.pid: "busy", idle.pid: "idle"})
    first = processes.look()
    assert [one.cpu_share for one in first] == [None, None], "nothing to compare with"
    spent, at = _cpu_s(busy.pid), perf_counter()
    until(lambda: _cpu_s(busy.pid) - spent >= 0.5)
    looks = {one.role: one for one in processes.look()}
    given = (_cpu_s(busy.pid) - spent) / (perf_counter() - at)  # 1 where nothing else runs
    assert looks["busy"].cpu_share == pytest.approx(given, rel=0.2)
    assert looks["idle"].cpu_share == pytest.approx(0, abs=0.02)


def _cpu_s(pid: int) -> float:
    spent = psutil.Process(pid).cpu_times()
    return spent.user + spent.system


def test_processes_that_end_midway_are_left_out_and_their_time_is_kept(start: Start) -> None:
    root = start("python", "-c", starting("python", "-c", BUSY))
    processes = Processes({root.pid: "server"})
    (child,) = (one.pid for one in processes.look() if one.pid != root.pid)
    until(lambda: _cpu_s(child) > 0.1)
    processes.look()
    before = processes.cpu_s["server"]
    assert before > 0.1
    os.kill(child, signal.SIGKILL)  # its parent does not wait for it: a zombie
    until(lambda: psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert [one.pid for one in processes.look()] == [root.pid]
    assert processes.cpu_s["server"] >= before
    root.kill()
    root.wait()
    assert processes.look() == ()
    assert Processes({root.pid: "server"}).look() == ()


@pytest.mark.parametrize("is_reaped", [True, False])
def test_a_process_that_ends_between_the_walk_and_the_look_is_no_error(
    start: Start, monkeypatch: pytest.MonkeyPatch, is_reaped: bool
) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", 60.0)
    root, other = start("python", "-c", SLEEP), start("python", "-c", SLEEP)
    processes = Processes({root.pid: "one", other.pid: "two"})
    processes.look()
    root.kill()
    until(lambda: psutil.Process(root.pid).status() == psutil.STATUS_ZOMBIE)
    if is_reaped:
        root.wait()
    assert [one.role for one in processes.look()] == ["two"]


def test_a_number_that_another_process_has_now_is_not_counted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", 60.0)
    root = start("python", "-c", SLEEP)
    processes = Processes({root.pid: "server"})
    processes.look()
    before = dict(processes.cpu_s)
    younger = psutil.Process(root.pid).cpu_times()._replace(user=0.0, system=-1.0)
    monkeypatch.setattr(LinuxProcess, "cpu_times", lambda _: younger)
    assert processes.look() == ()
    assert dict(processes.cpu_s) == before


@pytest.mark.parametrize("hidden", ["cpu_times", "memory_info", "num_threads"])
def test_what_the_system_denies_is_none(start: Start, monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    """Nothing is denied to root, so psutil says it in the kernel's place."""
    root = start("python", "-c", SLEEP)

    def deny(process: LinuxProcess) -> Any:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(LinuxProcess, hidden, deny)
    assert Processes({root.pid: "server"}).look() == (Process("server", root.pid),)


def test_a_process_that_hides_its_command_line_counts_with_its_parent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = start("python", "-c", starting("tritonserver", "-c", SLEEP))

    def deny(process: LinuxProcess) -> Any:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(LinuxProcess, "cmdline", deny)
    assert [one.role for one in Processes({root.pid: "facade"}).look()] == ["facade", "facade"]


def test_a_process_that_is_started_later_is_found(start: Start, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    wait = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({go!r}): time.sleep(0.01)\n"
    root = start("python", "-c", wait + starting("tritonserver", "-c", SLEEP))
    processes = Processes({root.pid: "facade"})
    assert [one.role for one in processes.look()] == ["facade"]
    Path(go).touch()
    until(lambda: [one.role for one in processes.look()] == ["facade", "triton"])


def test_a_load_generator_below_a_server_keeps_its_role(start: Start) -> None:
    root = start("python", "-c", starting("python", "-c", SLEEP))
    (child,) = (child.pid for child in psutil.Process(root.pid).children())
    for roots in ({root.pid: "a", child: "b"}, {child: "b", root.pid: "a"}):
        assert {one.pid: one.role for one in Processes(roots).look()} == {root.pid: "a", child: "b"}


LISTEN = (
    "import socket, sys, time; s = socket.socket(); s.bind(('{address}', 0)); s.listen(); "
    "print('up', flush=True); print(s.getsockname()[1], flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104  of a child, for a moment
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_of_this_machine_is_found_by_its_port(start: Start, host: str, address: str) -> None:
    server = start("python", "-c", LISTEN.format(address=address))
    assert server.stdout is not None
    port = int(server.stdout.readline())
    name = psutil.Process(server.pid).name()
    assert server_processes(f"http://{host}:{port}/v1") == {server.pid: name}


def test_the_facade_is_told_from_other_servers(start: Start) -> None:
    server = start("slipstream", "-c", LISTEN.format(address="127.0.0.1"), "serve")
    assert server.stdout is not None
    assert server_processes(f"http://127.0.0.1:{int(server.stdout.readline())}") == {server.pid: "facade"}


@pytest.mark.parametrize("url", ["http://192.0.2.1:22", "http://nowhere.invalid:8080", "http://[bad", "http:///x", ""])
def test_another_machine_has_no_processes_here(url: str) -> None:
    assert server_processes(url) == {}


def test_who_listens_here_is_not_taken_for_another_machine(start: Start) -> None:
    server = start("python", "-c", LISTEN.format(address="0.0.0.0"))  # noqa: S104
    assert server.stdout is not None
    assert server_processes(f"http://192.0.2.1:{int(server.stdout.readline())}") == {}


def test_a_port_where_nobody_listens_has_none() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert server_processes(f"http://127.0.0.1:{bound.getsockname()[1]}") == {}
