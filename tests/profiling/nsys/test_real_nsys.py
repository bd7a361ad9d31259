"""The real nsys: what is marked arrives, with its counts, from every thread and process; nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipstream.loadtest.comparison.serving import ServerFailed
from slipstream.profiling.nsys.capture import CaptureFolder, convert, read
from slipstream.profiling.nsys.export import NoRanges
from slipstream.profiling.nsys.results import Reading
from slipstream.profiling.nsys.serving import served_in
from slipstream.profiling.nsys.session import NoSuchSession, Session
from slipstream.profiling.nsys.tool import Nsys, NsysFailed
from slipstream.profiling.spans import payload
from slipstream.settings import Settings

MARKING = Path(__file__).with_name("marking.py")
ROOT = Path(__file__).parents[3]
TIMES, THREADS = 60, 4


def profiled(nsys: Nsys, into: CaptureFolder, *command: str, **env: str) -> Reading:
    """A whole run of a program under ``nsys profile``."""
    for _ in range(3):  # see `serving` for the fault
        done = subprocess.run(
            [
                str(nsys.path), "profile", "--trace=nvtx,osrt", "--sample=none", "--cpuctxsw=none", "--backtrace=none",
                f"--output={into.raw.with_suffix('')}", *command,
            ],
            env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if "QuadD" not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    convert(nsys, into)
    return read(nsys, into)


@pytest.fixture(scope="module")
def reading(nsys: Nsys, tmp_path_factory: pytest.TempPathFactory) -> Reading:
    into = CaptureFolder(tmp_path_factory.mktemp("marked"))
    return profiled(nsys, into, sys.executable, str(MARKING), str(TIMES), str(THREADS))


def test_every_marked_range_arrives(reading: Reading) -> None:
    expected = TIMES * THREADS + TIMES  # the child has one thread
    found = {one.stage: (one.ranges, one.unclosed) for one in reading.stages}
    assert found == dict.fromkeys(("embed", "retrieve", "decode", "step"), (expected, 0))


def test_they_arrive_from_all_threads_of_both_processes(reading: Reading) -> None:
    assert reading.processes == 2
    assert {one.threads for one in reading.stages} == {THREADS + 1}


def test_they_carry_the_request_and_the_number_of_sequences(reading: Reading, nsys: Nsys, tmp_path: Path) -> None:
    requests = {one.stage: one.requests for one in reading.stages}
    assert requests == {"embed": TIMES * THREADS, "retrieve": TIMES * THREADS, "decode": TIMES * THREADS, "step": None}
    known = {payload(f"request-{number}") for number in range(TIMES * THREADS)}
    assert {one.payload for one in reading.requests.slowest} <= known
    assert reading.requests.slowest


def test_waits_arrive_in_the_innermost_range(reading: Reading) -> None:
    sleeps = [one for one in reading.calls if one.function == "clock_nanosleep"]
    assert [(one.stage, one.kind, one.times) for one in sleeps] == [("embed", "sleep", TIMES * THREADS + TIMES)]
    embed = next(one for one in reading.stages if one.stage == "embed")
    assert TIMES * THREADS <= sleeps[0].total_ms <= embed.total_ms


def test_a_program_that_marks_nothing_is_refused(nsys: Nsys, tmp_path: Path) -> None:
    with pytest.raises(NoRanges, match="nothing of the domain"):
        profiled(nsys, CaptureFolder(tmp_path), sys.executable, "-c", "import time; time.sleep(0.01)")


def test_a_domain_whose_ranges_are_lost_is_refused(nsys: Nsys, tmp_path: Path) -> None:
    """The package's own way to a domain: with an old nsys it announces it and then marks nothing."""
    marking = "import nvtx; nvtx.get_domain('slipstream').push_range(message='embed', payload=1)"
    with pytest.raises(NoRanges, match="holds none of its ranges"):
        profiled(nsys, CaptureFolder(tmp_path), sys.executable, "-c", marking)


def test_a_session_captures_windows_of_a_program_that_goes_on(nsys: Nsys, tmp_path: Path) -> None:
    session = Session(nsys)
    with under(session, tmp_path):
        counts = [window(nsys, session, CaptureFolder(tmp_path / name)) for name in ("one", "50% %p two")]
    assert all(count > 5 for count in counts)


def window(nsys: Nsys, session: Session, into: CaptureFolder) -> int:
    """How many steps half a second holds, checked for what was before it and after."""
    into.root.mkdir()
    session.start(into.raw.with_suffix(""))
    time.sleep(0.5)
    session.stop()
    convert(nsys, into)
    assert not into.raw.exists()
    reading = read(nsys, into)
    assert 300 < reading.window_ms < 5000
    (step,) = (one for one in reading.stages if one.stage == "step")
    assert step.total_ms < reading.window_ms
    return step.ranges


class under:  # noqa: N801
    """A marking program instead of a server."""

    def __init__(self, session: Session, home: Path, *command: str) -> None:
        self.patch = pytest.MonkeyPatch()
        command = command or (sys.executable, str(MARKING), "0", "0", "until-told")
        self.patch.setattr("slipstream.profiling.nsys.serving.SERVE", command)
        self.served = served_in(session, Settings(home=home), home / "serve.log", needs_collection=True)

    def __enter__(self) -> str:
        return self.served.__enter__()

    def __exit__(self, *reason: object) -> None:
        self.patch.undo()
        self.served.__exit__(*reason)  # type: ignore[arg-type]


def runs(process: psutil.Process) -> bool:
    """Whether it does, also when it ends while it is asked."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def left_of(session: Session) -> list[str]:
    """Processes of a session; dead ones that nobody buried are none."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("NSYS_PROFILING_SESSION_NAME") == session.name or any(
                session.name in word for word in process.cmdline()
            )
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_nothing_of_a_session_is_left_and_no_other_is_touched(nsys: Nsys, tmp_path: Path) -> None:
    session, other = Session(nsys, "slipstream-a"), Session(nsys, "slipstream-other")
    (tmp_path / "other").mkdir()
    with under(other, tmp_path / "other"):
        with under(session, tmp_path):
            assert left_of(session)
        assert left_of(session) == []
        assert left_of(other)
        other.check()
    assert left_of(other) == []


def test_a_server_that_does_not_stop_is_killed(nsys: Nsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.profiling.nsys.serving._STOPPED_WITHIN_S", 1.0)
    deaf = (
        "import os, signal, subprocess, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sleep = subprocess.Popen(['sleep', '61'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{sleep.pid}}')\n"
        'print(\'{"ready": {"url": "http://x", "problem": null}}\', flush=True); time.sleep(60)'
    )
    session = Session(nsys, "slipstream-deaf")
    with under(session, tmp_path, sys.executable, "-c", deaf):
        started = [psutil.Process(int(pid)) for pid in (tmp_path / "pids").read_text().split()]
        assert all(one.is_running() for one in started)
    assert not [one for one in started if runs(one)]
    assert left_of(session) == []


def test_a_server_that_cannot_start_says_why(nsys: Nsys, tmp_path: Path) -> None:
    said = 'import sys; sys.stderr.write(\'{"error": {"message": "no bundle", "remedy": "build one"}}\'); sys.exit(2)'
    with pytest.raises(ServerFailed, match="no bundle"), under(Session(nsys), tmp_path, sys.executable, "-c", said):
        raise AssertionError("nothing was served")


def test_one_without_a_collection_is_refused(nsys: Nsys, tmp_path: Path) -> None:
    ready = 'print(\'{"ready": {"url": "http://x", "problem": "no collection"}}\', flush=True); input()'
    with (
        pytest.raises(ServerFailed, match="no collection"),
        under(Session(nsys), tmp_path, sys.executable, "-c", ready),
    ):
        raise AssertionError("nothing was served")


def test_a_killed_profile_takes_its_server_with_it(nsys: Nsys, tmp_path: Path) -> None:
    script = (
        "import time\nfrom pathlib import Path\nimport slipstream.profiling.nsys.serving as serving\n"
        "from slipstream.profiling.nsys.session import Session\nfrom slipstream.profiling.nsys.tool import find\n"
        "from slipstream.settings import Settings\n"
        f"serving.SERVE = ({sys.executable!r}, {str(MARKING)!r}, '0', '0', 'until-told')\n"
        f"home = Path({str(tmp_path)!r})\n"
        "session = Session(find(), 'slipstream-killed')\n"
        "with serving.served_in(session, Settings(home=home), home / 'log', needs_collection=False):\n"
        "    print('up', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        marking = [one for one in psutil.Process(process.pid).children(recursive=True) if str(MARKING) in one.cmdline()]
        assert marking
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(runs, marking)):
        assert time.monotonic() < deadline, "the server goes on by itself"
        time.sleep(0.1)


def test_a_session_that_nobody_began_is_named_with_those_there_are(nsys: Nsys) -> None:
    with pytest.raises(NoSuchSession, match="no session 'slipstream-none'; there are") as raised:
        Session(nsys, "slipstream-none").check()
    assert "nsys launch --session-new=slipstream-none" in raised.value.remedy


def test_a_report_that_is_none_is_refused_by_nsys(nsys: Nsys, tmp_path: Path) -> None:
    (tmp_path / "capture.nsys-rep").write_text("no report")
    with pytest.raises(NsysFailed, match="nsys export"):
        nsys.export(tmp_path / "capture.nsys-rep", tmp_path / "capture.sqlite")
    (tmp_path / "capture.qdstrm").write_text("no capture")
    with pytest.raises(NsysFailed):
        nsys.import_capture(tmp_path / "capture.qdstrm", tmp_path / "x.nsys-rep")


@pytest.mark.parametrize(("faults", "launches"), [(2, 3), (9, 3)])
def test_an_nsys_that_cannot_begin_is_tried_again(tmp_path: Path, faults: int, launches: int) -> None:
    """Old versions fail at times with an exception of their own; a script stands in for one."""
    ready = '{"ready": {"url": "http://x", "problem": null}}'
    script = tmp_path / "nsys"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = launch ] || exit 0\necho >> {tmp_path}/launches\n'
        f"if [ $(wc -l < {tmp_path}/launches) -le {faults} ]; then\n"
        "echo /build/QuadD/Common/ProcessWaiter.cpp: Throw >&2; exit 1; fi\n"
        f"echo '{ready}'; exec sleep 30\n"
    )
    script.chmod(0o755)
    server = under(Session(Nsys(script, None, "1")), tmp_path)
    if faults < launches:
        with server as url:
            assert url == "http://x"
    else:
        with pytest.raises(ServerFailed, match="ProcessWaiter"), server:
            raise AssertionError("nothing was served")
    assert (tmp_path / "launches").read_text().count("\n") == launches
