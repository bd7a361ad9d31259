"""What a session is begun with, with a driver for GPUs and without one."""

from pathlib import Path

import pytest

from slipstream.profiling.nsys.capture import CaptureFolder, convert
from slipstream.profiling.nsys.session import Session, launch_hint
from slipstream.profiling.nsys.tool import Nsys
from tests.conftest import invoke
from tests.profiling.nsys.test_real_nsys import under


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one would be looked for; there is none yet."""
    monkeypatch.setattr("slipstream.profiling.nsys.session._DRIVER", tmp_path / "nvidiactl")
    return tmp_path / "nvidiactl"


def test_the_kernels_of_graphs_are_asked_for_where_there_is_a_driver(driver: Path, tmp_path: Path) -> None:
    session = Session(Nsys(Path("nsys"), None, "1"))
    asked = {"--trace=nvtx,osrt,cuda", "--cuda-graph-trace=node"}
    assert "--trace=nvtx,osrt" in session.launcher
    assert not asked & {*session.launcher, *launch_hint().split()}
    driver.touch()
    assert asked <= set(session.launcher)
    assert asked <= set(launch_hint().split())
    refused = invoke("profile", "nsys", "--url", "http://127.0.0.1:1", home=tmp_path)
    assert launch_hint() in refused.stderr


def test_nsys_knows_what_it_is_asked(nsys: Nsys, driver: Path, tmp_path: Path) -> None:
    driver.touch()
    session, into = Session(nsys, "slipstream-graphs"), CaptureFolder(tmp_path / "nsys")
    into.root.mkdir()
    with under(session, tmp_path):
        session.start(into.raw.with_suffix(""))
        session.stop()
    convert(nsys, into)
    assert into.report.stat().st_size > 0
