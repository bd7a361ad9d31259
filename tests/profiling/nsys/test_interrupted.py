"""What is cut short loses nothing and leaves nothing running: imports, exports, and the end of a server."""

import json
import os
import signal
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from slipstream.loadtest.credentials import API_KEY
from slipstream.profiling.nsys.capture import CaptureFolder, convert, read
from slipstream.profiling.nsys.serving import served_in
from slipstream.profiling.nsys.session import Session
from slipstream.profiling.nsys.tool import Nsys, NsysFailed
from slipstream.settings import Settings
from tests.profiling.nsys.exports import Made
from tests.profiling.nsys.test_real_nsys import runs


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> CaptureFolder:
    """With a raw capture."""
    found = CaptureFolder(tmp_path / "nsys")
    found.root.mkdir()
    found.raw.write_text("raw")
    return found


def importing(tmp_path: Path, *lines: str) -> Nsys:
    """A stand-in for the importer, that is given ``-i CAPTURE -o REPORT``; nsys itself does nothing."""
    return Nsys(program(tmp_path / "nsys-program", "exit 0"), program(tmp_path / "importer", *lines), "1")


WHOLE = 'case "$4" in *.nsys-rep) printf whole > "$4";; esac'


def names(folder: CaptureFolder) -> list[str]:
    return sorted(path.name for path in folder.root.iterdir())


def test_an_import_that_breaks_off_leaves_the_raw_capture_alone(folder: CaptureFolder, tmp_path: Path) -> None:
    with pytest.raises(NsysFailed):
        convert(importing(tmp_path, 'printf half > "$4"', "kill -9 $$"), folder)
    assert names(folder) == ["capture.qdstrm"]
    convert(importing(tmp_path, WHOLE), folder)
    assert names(folder) == ["capture.nsys-rep"]
    assert folder.report.read_text() == "whole"


def test_a_report_beside_a_raw_capture_is_made_anew(folder: CaptureFolder, tmp_path: Path) -> None:
    """An import that was killed in the middle may have left it, and an export of it."""
    folder.report.write_text("half")
    folder.export.write_text("of a half")
    with pytest.raises(NsysFailed):
        convert(importing(tmp_path, "exit 1"), folder)
    assert folder.raw.is_file()
    convert(importing(tmp_path, WHOLE), folder)
    assert names(folder) == ["capture.nsys-rep"]
    assert folder.report.read_text() == "whole"


def test_without_an_importer_both_are_kept(folder: CaptureFolder, tmp_path: Path) -> None:
    folder.report.write_text("of nsys itself")
    convert(Nsys(tmp_path / "none", None, "1"), folder)
    assert names(folder) == ["capture.nsys-rep", "capture.qdstrm"]


def test_an_importer_that_makes_nothing_is_named(folder: CaptureFolder, tmp_path: Path) -> None:
    with pytest.raises(NsysFailed, match="importer made no report"):
        convert(importing(tmp_path, "exit 0"), folder)
    assert folder.raw.is_file()


def test_an_export_that_breaks_off_is_done_again(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path / "nsys")
    folder.root.mkdir()
    folder.report.write_text("report")
    made = Made(tmp_path / "made.sqlite")
    made.request(1, 0)
    made.rows.close()
    into = 'for word; do case "$word" in --output=*.sqlite) into=${word#--output=};; esac; done'
    breaking = program(tmp_path / "breaking", into, f"head -c 9000 {made.path} > $into", "kill -9 $$")
    with pytest.raises(NsysFailed):
        read(Nsys(breaking, None, "1"), folder)
    assert names(folder) == ["capture.nsys-rep"]
    exporting = program(tmp_path / "exporting", into, f"cp {made.path} $into")
    assert read(Nsys(exporting, None, "1"), folder).requests.whole == 1
    assert names(folder) == ["capture.nsys-rep", "capture.sqlite", "reading.json"]
    with sqlite3.connect(folder.export) as rows:
        assert rows.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows.close()


def type_ctrl_c(after_s: float) -> None:
    os.system(f"(sleep {after_s}; kill -INT {os.getpid()}) > /dev/null 2>&1 &")  # noqa: S605


def test_ctrl_c_waits_for_a_command_of_nsys(tmp_path: Path) -> None:
    slow = program(tmp_path / "nsys", "sleep 2", f"echo done > {tmp_path}/said")
    type_ctrl_c(0.5)
    with pytest.raises(KeyboardInterrupt):
        Nsys(slow, None, "1").run("stop")
    assert (tmp_path / "said").read_text() == "done\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whoever_handles_ctrl_c_is_told_after_it(tmp_path: Path) -> None:
    told: list[str] = []
    slow = program(tmp_path / "nsys", "sleep 2", f"echo done > {tmp_path}/said")
    type_ctrl_c(0.5)
    before = signal.signal(signal.SIGINT, lambda *_: told.append((tmp_path / "said").read_text()))
    try:
        Nsys(slow, None, "1").run("stop")
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == ["done\n"]


def test_an_import_is_ended_before_ctrl_c_ends_the_rest(folder: CaptureFolder, tmp_path: Path) -> None:
    nsys = importing(tmp_path, "sleep 2", WHOLE)
    type_ctrl_c(0.5)
    with pytest.raises(KeyboardInterrupt):
        convert(nsys, folder)
    assert names(folder) == ["capture.nsys-rep"]


def test_the_key_of_the_load_is_not_in_the_environment_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nsys starts, it writes down with its environment."""
    ready = json.dumps({"ready": {"url": "http://x", "problem": None}})
    launching = program(tmp_path / "nsys", f"env > {tmp_path}/env", f"[ \"$1\" != launch ] || echo '{ready}'")
    monkeypatch.setattr("slipstream.profiling.nsys.serving.SERVE", ())
    monkeypatch.setenv(API_KEY, "canary")
    session = Session(Nsys(launching, None, "1"), "slipstream-keyless")
    with served_in(session, Settings(home=tmp_path), tmp_path / "log", needs_collection=False):
        said = (tmp_path / "env").read_text()
    assert f"SLIPSTREAM_HOME={tmp_path}" in said
    assert "canary" not in said


def test_a_second_ctrl_c_ends_the_waiting_for_a_server_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = json.dumps({"ready": {"url": "http://x", "problem": None}})
    launching = program(
        tmp_path / "nsys",
        f'[ "$1" = launch ] || {{ echo "$1" >> {tmp_path}/asked; exit 0; }}',
        "trap '' INT",  # for its child, too
        f"echo '{ready}'; sleep 61; exit 0",
    )
    monkeypatch.setattr("slipstream.profiling.nsys.serving.SERVE", ())
    session = Session(Nsys(launching, None, "1"), "slipstream-deaf")
    ending = ExitStack()
    ending.enter_context(served_in(session, Settings(home=tmp_path), tmp_path / "log", needs_collection=False))
    children = {one: one.as_dict(["cmdline"])["cmdline"] or () for one in psutil.Process().children()}
    (launcher,) = (one for one, command in children.items() if str(launching) in command)
    while not (below := launcher.children()):
        time.sleep(0.05)
    type_ctrl_c(1.0)
    with pytest.raises(KeyboardInterrupt):
        ending.close()
    assert [one for one in (launcher, *below) if runs(one)] == []
    assert (tmp_path / "asked").read_text() == "shutdown\n"
