"""A run as the process that watches it sees it: a generator of its own, and Ctrl-C or SIGTERM at any moment."""

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from slipstream.loadtest import run as running
from slipstream.loadtest.folder import Folder
from slipstream.loadtest.report.records import Run
from slipstream.loadtest.run import GeneratorFailed, State, generate
from slipstream.profiling.telemetry.records import LOAD_GENERATOR
from slipstream.profiling.telemetry.sampler import read_telemetry

SAY = "import json, signal, sys, time\ndef say(**said): print(json.dumps(said), flush=True)\n"
COUNTS = "elapsed_s=2.5, sent=3, ended=3, in_flight=0, errors=0"
STOPPED = f"signal.signal(signal.SIGINT, lambda *_: (say(event='end', {COUNTS}, stopped=True), sys.exit(0)))\n"
BEGUN = f"say(event='start', at=1.0, monotonic=1.0, planned=9)\nsay(event='progress', {COUNTS})\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write_run(Run("http://127.0.0.1:1", "slipstream loadtest"), None)
    return made


def generator(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What runs in place of Locust."""
    monkeypatch.setattr(running, "_command", lambda *_: [sys.executable, "-c", SAY + "".join(lines)])


def interrupt_at(*moments: int, kind: signal.Signals = signal.SIGINT) -> running.Watch:
    """Ctrl-C, or another signal, while the run is watched, at the given looks."""
    looks: list[State] = []

    def watch(state: State) -> None:
        looks.append(state)
        if len(looks) in moments:
            os.kill(os.getpid(), kind)

    return watch


def test_the_server_and_what_sends_the_load_are_watched(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    generator(monkeypatch, BEGUN, "time.sleep(1.5)\n", f"say(event='end', {COUNTS}, stopped=False)")
    with socket.socket() as server:  # this process, of which the generator is a child
        server.bind(("127.0.0.1", 0))
        server.listen()
        generate(folder, f"http://127.0.0.1:{server.getsockname()[1]}", lambda _: None)
    looks = read_telemetry(folder.telemetry, 0.0)
    seen = {(one.role, one.pid) for look in looks for one in look.processes}  # other tests' servers among them
    assert (psutil.Process().name(), os.getpid()) in seen
    assert [pid for role, pid in seen if role == LOAD_GENERATOR and pid != os.getpid()]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_run_is_watched_stops_the_load_and_nothing_else(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    def end(*_: object) -> None:
        raise AssertionError("it would have ended this process")

    generator(monkeypatch, STOPPED, BEGUN, "time.sleep(30)")
    before = signal.signal(kind, end)
    try:
        moments = generate(folder, "http://127.0.0.1:1", interrupt_at(1, kind=kind))
        assert signal.getsignal(kind) is end
    finally:
        signal.signal(kind, before)
    assert (moments.was_stopped, moments.ended_s) == (True, 2.5)
    assert folder.read_run()[2] == moments


def test_a_load_in_the_background_can_be_interrupted_too(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = f"except KeyboardInterrupt: say(event='end', {COUNTS}, stopped=True)\n"
    generator(monkeypatch, "try:\n", *(f"    {line}\n" for line in BEGUN.splitlines()), "    time.sleep(5)\n", ended)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does
    try:
        assert generate(folder, "http://127.0.0.1:1", interrupt_at(1)).was_stopped
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_the_generator_did_not_hear_is_not_forgotten(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what does one run after another would go on with the next."""
    ended = f"say(event='end', {COUNTS}, stopped=False)"
    generator(monkeypatch, "signal.signal(signal.SIGINT, signal.SIG_IGN)\n", BEGUN, "time.sleep(0.5)\n", ended)
    moments = generate(folder, "http://127.0.0.1:1", interrupt_at(1))
    assert (moments.was_stopped, moments.ended_s) == (True, 2.5)
    assert folder.read_run()[2] == moments


def test_a_generator_that_does_not_stop_is_killed_by_the_third_ctrl_c(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    generator(monkeypatch, deaf, BEGUN, f"say(event='progress', {COUNTS})\n" * 2, "time.sleep(30)")
    with pytest.raises(GeneratorFailed, match="ended with -9"):
        generate(folder, "http://127.0.0.1:1", interrupt_at(1, 2, 3))


def test_ctrl_c_before_there_is_a_load_is_no_failure_of_the_generator(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator(monkeypatch, f"import os; os.kill({os.getpid()}, signal.SIGINT); time.sleep(30)")
    with pytest.raises(KeyboardInterrupt):
        generate(folder, "http://127.0.0.1:1", interrupt_at())
