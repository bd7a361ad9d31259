"""A capture from start to end, with stand-ins for what needs a GPU: ``ncu`` and the server under it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main
from slipstream.profiling.ncu import capture as captured
from slipstream.profiling.ncu import script as by_hand
from slipstream.profiling.ncu import tool
from slipstream.profiling.ncu.capture import Plan, capture, options
from slipstream.profiling.ncu.faults import (
    CountersForbidden,
    NothingCaptured,
    QuestionsRefused,
    ReportUnreadable,
    ToolFailed,
)
from slipstream.profiling.ncu.script import script
from slipstream.profiling.ncu.tool import NoGpu, exported, find_ncu, require_gpu, tensor_metrics
from tests.profiling.ncu.made import REPORTS

HERE = Path(__file__).parent
TENSOR = [
    f"sm__ops_path_tensor_src_{kind}_dst_fp32.sum{suffix}"
    for kind in ("bf16", "fp8")
    for suffix in ("", ".peak_sustained")
]


class Stage:
    """A machine where ``ncu`` is the stand-in, and what it was called with."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._monkeypatch = path, monkeypatch
        self.told: list[tuple[int, str]] = []
        (path / "bin").mkdir()
        self.program("ncu", f'exec {sys.executable} {HERE / "fake_ncu.py"} "$@"')
        monkeypatch.setenv("PATH", f"{path / 'bin'}:{os.environ['PATH']}")
        for name in ("FAKE_NCU_CALLS", "FAKE_SERVER_ASKED", "FAKE_SERVER_CHILD"):
            monkeypatch.setenv(name, str(path / name.lower()))

    def program(self, name: str, line: str) -> None:
        made = self.path / "bin" / name
        made.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        made.chmod(made.stat().st_mode | stat.S_IXUSR)

    def how(self, mode: str) -> None:
        self._monkeypatch.setenv("FAKE_NCU", mode)

    def run(self, *arguments: str, plan: Plan | None = None) -> Path:
        plan = plan or Plan(streams=3, max_time_s=60)
        report = str(self.path / captured.REPORT)
        command = ["ncu", *options(plan, report, ()), sys.executable, str(HERE / "fake_server.py"), *arguments]
        return capture(command, self.path, plan, self.path, lambda measured, doing: self.told.append((measured, doing)))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.path / "fake_ncu_calls").read_text(encoding="utf-8").splitlines()]

    def server_has_children(self) -> bool:
        """Whether any lives on; one that was killed is given a moment to go."""
        child = int((self.path / "fake_server_child").read_text(encoding="utf-8"))
        return bool(psutil.wait_procs([psutil.Process(child)], timeout=5)[1]) if psutil.pid_exists(child) else False


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


class TestOptions:
    @pytest.mark.parametrize(
        ("within", "written"),
        [("decode", "slipstream@decode"), ("prefill", "slipstream@prefill"), ("step", "slipstream@step/")],
    )
    def test_a_range_that_crosses_threads_has_no_slash_and_a_pushed_one_has(self, within: Any, written: str) -> None:
        made = options(Plan(range=within), "r", ())
        assert made[made.index("--nvtx-include") + 1] == written
        assert "--nvtx" in made

    def test_without_a_range_nothing_is_filtered(self) -> None:
        assert not [option for option in options(Plan(range="none"), "r", ()) if "nvtx" in option]

    def test_what_is_counted_how_often_and_that_clocks_are_left_alone(self) -> None:
        made = options(Plan(launches=7, skip=5), "r", ("a.sum", "b.sum"))
        pairs = dict(pairwise(made))
        told = {
            "--launch-count": "7", "--launch-skip": "5", "--set": "roofline", "--metrics": "a.sum,b.sum",
            "--replay-mode": "kernel", "--clock-control": "none", "--kill": "yes", "--export": "r",
            "--target-processes": "all",
        }  # fmt: skip
        assert told.items() <= pairs.items()


class TestCapture:
    def test_questions_are_asked_until_the_tool_has_enough_and_nothing_is_left_running(self, stage: Stage) -> None:
        report = stage.run()
        assert report.read_text(encoding="utf-8") == (REPORTS / "base-units.csv").read_text(encoding="utf-8")
        asked = json.loads((stage.path / "fake_server_asked").read_bytes())
        assert (asked["model"], asked["ignore_eos"]) == ("slipstream-base", True)
        assert not stage.server_has_children()

    def test_after_its_time_it_is_interrupted_and_what_was_measured_is_kept(self, stage: Stage) -> None:
        stage.how("endless")
        assert stage.run(plan=Plan(streams=1, max_time_s=4)).is_file()
        assert not stage.server_has_children()

    def test_a_tool_that_has_enough_and_does_not_end_is_ended(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.how("stuck")
        monkeypatch.setattr(captured, "_ENDS_WITHIN_S", 0.1)
        assert stage.run(plan=Plan(launches=3, streams=1, max_time_s=600)).is_file()
        assert stage.told[-1] == (3, "writing the report")
        assert any(measured == 3 and "answered" in doing for measured, doing in stage.told)

    def test_ctrl_c_keeps_what_was_measured(self, stage: Stage) -> None:
        stage.how("endless")

        def interrupt_when_ready() -> None:
            while not (stage.path / "fake_server_asked").exists():
                timer.wait(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Event()
        threading.Thread(target=interrupt_when_ready, daemon=True).start()
        assert stage.run().is_file()
        assert not stage.server_has_children()

    def test_a_second_ctrl_c_waits_no_longer_and_leaves_nothing_running(self, stage: Stage) -> None:
        stage.how("deaf")

        def interrupt_twice() -> None:
            for name in ("fake_server_asked", "report.interrupted"):
                while not (stage.path / name).exists():
                    timer.wait(0.05)
                os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Event()
        threading.Thread(target=interrupt_twice, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            stage.run()
        assert not stage.server_has_children()

    @pytest.mark.parametrize("status", [401, 404, 500])
    def test_a_server_that_refuses_every_question_is_told_at_once(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        stage.how("endless")
        monkeypatch.setenv("FAKE_SERVER_REFUSES", str(status))
        with pytest.raises(QuestionsRefused, match=f"refuses every question: {status} {{}}") as told:
            stage.run()
        assert "SLIPSTREAM_LOADTEST_API_KEY" in told.value.remedy
        assert not stage.server_has_children()

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_server_that_is_busy_is_asked_on(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        stage.how("endless")
        monkeypatch.setenv("FAKE_SERVER_REFUSES", str(status))
        assert stage.run(plan=Plan(streams=8, max_time_s=4)).is_file()

    def test_a_proxy_of_the_environment_gets_no_question(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")  # nothing answers there
        stage.run(plan=Plan(max_time_s=50))
        assert (stage.path / "fake_server_asked").exists()

    def test_forbidden_counters_are_told(self, stage: Stage) -> None:
        stage.how("forbidden")
        with pytest.raises(CountersForbidden):
            stage.run()
        assert not stage.server_has_children()

    def test_a_range_without_kernels_is_told(self, stage: Stage) -> None:
        stage.how("nothing")
        with pytest.raises(NothingCaptured, match="no kernel ran"):
            stage.run()

    def test_a_server_that_does_not_start_is_told_in_its_own_words(self, stage: Stage) -> None:
        with pytest.raises(ToolFailed, match="no bundle was built yet"):
            stage.run("broken")


class TestTool:
    def test_counters_of_tensor_cores_are_those_that_this_version_has(self, stage: Stage) -> None:
        assert list(tensor_metrics(find_ncu())) == TENSOR

    def test_no_tool_is_told_with_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(tool, "_PLACES", ())
        with pytest.raises(ToolFailed, match="not installed") as missing:
            find_ncu()
        assert "apt-get install nsight-compute" in missing.value.remedy
        assert "--dry-run" in missing.value.remedy

    def test_the_newest_of_nvidias_folders_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for version in ("2024.3.2", "2025.1.1"):
            (tmp_path / version).mkdir()
            (tmp_path / version / "ncu").touch()
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(tool, "_PLACES", (f"{tmp_path}/*/ncu",))
        assert find_ncu() == str(tmp_path / "2025.1.1" / "ncu")

    def test_no_driver_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent() -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

        monkeypatch.setattr(pynvml, "nvmlInit", absent)
        with pytest.raises(NoGpu, match="no NVIDIA GPU here") as told:
            require_gpu()
        assert "--from" in told.value.remedy

    def test_a_driver_without_a_card_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
        with pytest.raises(NoGpu):
            require_gpu()

    def test_what_is_no_report_is_refused(self, stage: Stage) -> None:
        (stage.path / "some.ncu-rep").write_text("junk", encoding="utf-8")
        with pytest.raises(ReportUnreadable, match="junk"):
            exported("ncu", stage.path / "some.ncu-rep")

    def test_a_tool_that_cannot_be_run_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ToolFailed, match="cannot be run"):
            tensor_metrics(str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["profile", "ncu", *arguments])


class TestCommand:
    def test_a_capture_ends_in_a_table_and_three_files(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLIPSTREAM_HOME", str(stage.path / "home"))
        monkeypatch.setattr(tool, "require_gpu", lambda: None)
        monkeypatch.setattr(
            captured, "server", lambda bundle: (sys.executable, str(HERE / "fake_server.py"), str(bundle))
        )
        done = run("--bundle", "b1", "--streams", "3", "--launches", "9")
        assert done.exit_code == 0, done.output
        assert "8 launches of 4 kernels" in done.stdout
        (folder,) = (stage.path / "home" / "reports").iterdir()
        assert folder.name.startswith("ncu-")
        assert {path.name for path in folder.iterdir()} == {"report.ncu-rep", "report.csv", "kernels.json", "ncu.log"}
        made = next(call for call in stage.calls() if "--export" in call)
        assert made[-1] == "b1"
        assert made[made.index("--metrics") + 1].split(",") == TENSOR

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_a_report_made_elsewhere_is_read(self, tmp_path: Path, encoding: str) -> None:
        path = tmp_path / "report.csv"
        path.write_text((REPORTS / "scaled-units.csv").read_text(encoding="utf-8"), encoding=encoding)
        done = run("--from", str(path), "--json")
        document = json.loads(done.stdout)
        assert document["processes"] == ["3101", "3102"]
        assert [kernel["bound"] for kernel in document["kernels"]] == ["compute", "memory", "latency", "unknown"]
        assert document["kernels"][1]["dram_share_of_peak"] == pytest.approx(0.8)

    def test_one_of_the_tools_own_is_exported_first(self, stage: Stage) -> None:
        path = stage.path / "r.ncu-rep"
        path.write_bytes((REPORTS / "base-units.csv").read_bytes())
        assert "8 launches of 4 kernels" in run("--from", str(path)).stdout
        assert stage.calls() == [["--import", str(path), "--csv", "--page", "raw"]]

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "is empty"), (b"\xc3(\x00\xff", "is no text"), (None, "cannot be read")]
    )
    def test_a_file_that_cannot_be_one_ends_with_2(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        path = tmp_path / "report.csv"
        if content is not None:
            path.write_bytes(content)
        done = run("--from", str(path))
        assert (done.exit_code, message in done.stderr) == (2, True), done.output

    def test_two_things_to_do_are_refused(self) -> None:
        assert run("--from", "a", "--dry-run").exit_code == 2

    def test_a_dry_run_needs_neither_tool_nor_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(tool, "_PLACES", ())
        assert run("--dry-run").stdout.rstrip("\n") == script(Plan(), None)
        assert json.loads(run("--dry-run", "--json", "--bundle", "b").stdout) == {"script": script(Plan(), "b")}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free one, for the server that the script starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = int(probe.getsockname()[1])
    monkeypatch.setattr(by_hand, "_PORT", found)
    return found


class TestScript:
    """Run as it is printed, by bash, with a server that is up late."""

    @pytest.fixture(autouse=True)
    def served(self, stage: Stage) -> None:
        stage.program("slipstream", f'[ "$1" = serve ] || exit 0\nexec {sys.executable} {HERE / "fake_server.py"} "$@"')

    def run(self, stage: Stage, plan: Plan) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-eu", "-c", script(plan, "b")],
            cwd=stage.path, check=True, timeout=60, capture_output=True, text=True,
        )  # fmt: skip

    def test_it_calls_the_tool_as_a_capture_does(self, stage: Stage, port: int) -> None:
        self.run(stage, Plan())
        asked, made, imported = stage.calls()
        assert asked == ["--query-metrics"]
        place = made.index("--metrics")
        assert made[place + 1].split(",") == TENSOR
        assert [*made[:place], *made[place + 2 :]] == [
            *options(Plan(), "report.ncu-rep", ()), "slipstream", "serve", "--bundle", "b", "--port", str(port),
        ]  # fmt: skip
        assert imported == ["--import", "report.ncu-rep", "--csv", "--page", "raw"]
        assert (stage.path / "report.csv").read_bytes() == (REPORTS / "base-units.csv").read_bytes()

    @pytest.mark.usefixtures("port")
    def test_it_asks_on_in_as_many_streams_until_the_tool_has_enough(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_SERVER_STREAMS", "3")
        done = self.run(stage, Plan(streams=3, max_time_s=50))
        asked = json.loads((stage.path / "fake_server_asked").read_bytes())
        assert (asked["model"], asked["ignore_eos"]) == ("slipstream-base", True)
        assert "refuses" not in done.stderr
        assert not stage.server_has_children()

    @pytest.mark.usefixtures("port")
    def test_after_its_time_it_interrupts_the_tool_and_reads_what_there_is(self, stage: Stage) -> None:
        stage.how("endless")
        self.run(stage, Plan(streams=1, max_time_s=2.5))
        assert (stage.path / "report.csv").read_bytes() == (REPORTS / "base-units.csv").read_bytes()
        assert not stage.server_has_children()

    @pytest.mark.usefixtures("port")
    def test_ctrl_c_ends_it_early_and_keeps_what_was_measured(self, stage: Stage) -> None:
        stage.how("endless")
        process = subprocess.Popen(
            ["bash", "-eu", "-c", script(Plan(streams=2), None)], cwd=stage.path, start_new_session=True
        )
        while not (stage.path / "fake_server_asked").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) == 0
        assert (stage.path / "report.csv").read_bytes() == (REPORTS / "base-units.csv").read_bytes()
        assert not stage.server_has_children()

    @pytest.mark.usefixtures("port")
    def test_a_server_that_refuses_is_told_and_asked_no_more(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.how("endless")
        monkeypatch.setenv("FAKE_SERVER_REFUSES", "401")
        done = self.run(stage, Plan(streams=2, max_time_s=600))
        assert "the server refuses the questions with 401" in done.stderr
        assert not stage.server_has_children()

    @pytest.mark.usefixtures("port")
    def test_a_report_of_an_earlier_run_is_not_read_as_this_ones(self, stage: Stage) -> None:
        stage.how("forbidden")
        for name in ("report.ncu-rep", "report.csv"):
            (stage.path / name).write_text("yesterday's")
        with pytest.raises(subprocess.CalledProcessError) as raised:
            self.run(stage, Plan(streams=1, max_time_s=600))
        assert raised.value.returncode == 2
        assert "ncu measured nothing" in raised.value.stderr
        assert not (stage.path / "report.csv").exists()

    @pytest.mark.usefixtures("port")
    @pytest.mark.parametrize("proxy", ["http_proxy", "ALL_PROXY"])
    def test_no_proxy_gets_the_questions(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing answers there
        self.run(stage, Plan(streams=1, max_time_s=50))
        assert (stage.path / "fake_server_asked").exists()

    @pytest.mark.usefixtures("port")
    def test_a_server_that_does_not_start_ends_it(self, stage: Stage) -> None:
        stage.program("slipstream", '[ "$1" != serve ]')
        self.run(stage, Plan(max_time_s=600))
        assert not (stage.path / "fake_server_asked").exists()
