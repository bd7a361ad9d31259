"""PyTorch's profiler around the stages of a build: what it records of real torch, and what is left if things break."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream.build.draft.distil import DistilOptions, Lesson, distil
from slipstream.build.stages import Outputs, Stage, StageCache
from slipstream.build.torch_profile import SCHEDULES, BuildProfile, ProfileUnwritable, StageProfile, _operators
from slipstream.engines.protocols import Progress
from tests.build.conftest import TinyRecipe
from tests.conftest import slipstream
from tests.tiny_llama import write_tiny_checkpoint


def silent(share: float, doing: str) -> None:
    pass


def multiply(times: int) -> None:
    import torch

    left = torch.ones(64, 32)
    for _ in range(times):
        left @ torch.ones(32, 16)


def stage(name: str, steps: int, *, before: int = 1, breaks: bool = False) -> Stage:
    """One that multiplies ``before`` times, then once in every step."""

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        multiply(before)
        for number in range(steps):
            multiply(1)
            progress(number / steps, "multiplying")
        if breaks:
            raise KeyboardInterrupt
        return {"said": "done"}

    return Stage(name, {}, work)


@pytest.fixture
def profile(tmp_path: Path) -> BuildProfile:
    return BuildProfile.below(tmp_path / "reports", "tiny")


def run(profile: BuildProfile, one: Stage, out: Path, progress: Progress = silent) -> StageProfile:
    profile.around(one).work({}, out, progress)
    return profile.stages[-1]


def events(profile: BuildProfile, recorded: StageProfile) -> list[dict[str, Any]]:
    assert recorded.trace is not None
    with gzip.open(profile.folder / recorded.trace, "rt", encoding="utf-8") as stream:
        return list(json.load(stream)["traceEvents"])


def calls(recorded: StageProfile, name: str) -> int:
    return next((one.calls for one in recorded.operators if one.name == name), 0)


class TestRecording:
    def test_a_stage_without_a_schedule_is_recorded_whole(self, profile: BuildProfile, tmp_path: Path) -> None:
        assert SCHEDULES["merge"] is None
        recorded = run(profile, stage("merge", 3, before=4), tmp_path)
        assert (calls(recorded, "aten::mm"), recorded.steps, recorded.note) == (7, None, "")
        assert sum(event.get("name") == "aten::mm" for event in events(profile, recorded)) == 7
        assert "merge: all of it" in profile.lines({})

    def test_of_many_steps_some_are_recorded_once_it_is_warm(self, profile: BuildProfile, tmp_path: Path) -> None:
        planned = SCHEDULES["distil"]
        assert planned is not None
        recorded = run(profile, stage("distil", 40, before=100), tmp_path)
        assert recorded.steps == planned.active == calls(recorded, "aten::mm")
        assert not any("ProfilerStep" in one.name for one in recorded.operators)

    def test_operators_have_their_times_shares_and_operations(self, profile: BuildProfile, tmp_path: Path) -> None:
        recorded = run(profile, stage("merge", 1), tmp_path)
        product = next(one for one in recorded.operators if one.name == "aten::mm")
        assert product.gflop == pytest.approx(2 * 2 * 64 * 32 * 16 / 1e9, abs=1e-6)
        assert 0 < product.self_ms <= product.total_ms
        assert sum(one.share for one in recorded.operators) == pytest.approx(1, abs=0.01)
        assert [one.self_ms for one in recorded.operators] == sorted(one.self_ms for one in recorded.operators)[::-1]

    def test_a_stage_that_ends_before_the_recording_says_so(self, profile: BuildProfile, tmp_path: Path) -> None:
        recorded = run(profile, stage("quantize", 2), tmp_path)
        assert (recorded.trace, recorded.operators) == (None, ())
        assert recorded.note == "it ended after 2 steps, before the one at which recording begins (3)"
        assert recorded.note in "\n".join(profile.lines({}))

    def test_a_stage_that_ends_inside_the_first_recorded_step_is_not_said_to_be_whole(
        self, profile: BuildProfile, tmp_path: Path
    ) -> None:
        planned = SCHEDULES["quantize"]
        assert planned is not None
        recorded = run(profile, stage("quantize", planned.first), tmp_path)
        assert (recorded.steps, recorded.trace) == (0, "quantize.trace.json.gz")
        assert "quantize: a part of one step" in profile.lines({})

    def test_progress_is_passed_on_and_that_of_another_thread_is_no_step(
        self, profile: BuildProfile, tmp_path: Path
    ) -> None:
        told: list[float] = []

        def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
            for number in range(30):
                thread = threading.Thread(target=progress, args=(number / 30, "elsewhere"))
                thread.start()
                thread.join()
            multiply(1)
            return {}

        recorded = run(profile, Stage("distil", {}, work), tmp_path, lambda share, doing: told.append(share))
        assert told == [number / 30 for number in range(30)]
        assert "after 0 steps" in recorded.note

    def test_a_stage_that_runs_no_torch_is_left_alone(self, profile: BuildProfile) -> None:
        one = stage("bundle", 1)
        assert profile.around(one) is one

    def test_a_recorded_stage_has_the_digest_and_the_facts_of_one_that_is_not(
        self, profile: BuildProfile, tmp_path: Path
    ) -> None:
        one = stage("merge", 1)
        assert profile.around(one).digest({}) == one.digest({})
        record, status = StageCache(tmp_path / "stages").run(profile.around(one), {}, silent)
        assert (record.facts, status) == ({"said": "done"}, "ran")
        assert StageCache(tmp_path / "stages").run(profile.around(one), {}, silent)[1] == "cached"
        assert len(profile.stages) == 1

    def test_cached_stages_are_told_with_how_to_make_them_again(self, profile: BuildProfile, tmp_path: Path) -> None:
        told = "\n".join(profile.lines({"quantize": tmp_path / "abc", "bundle": tmp_path / "b"}))
        assert "quantize came from the cache and was not profiled" in told
        assert f"rm -r {tmp_path / 'abc'}" in told
        assert "bundle came" not in told

    def test_the_command_that_removes_a_stage_removes_a_path_with_blanks(
        self, profile: BuildProfile, tmp_path: Path
    ) -> None:
        cached, bystander = tmp_path / "my home" / "abc", tmp_path / "my"
        cached.mkdir(parents=True)
        bystander.mkdir()
        command = next(line for line in profile.lines({"quantize": cached}) if "rm -r" in line)
        subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
        assert (cached.exists(), bystander.exists()) == (False, True)


def averaged(name: str, kind: str, cpu_us: tuple[float, float], device_us: tuple[float, float]) -> Any:
    """One row of the profiler's table; times are self and total, and a CPU operator has those of its kernels."""
    from torch.autograd import DeviceType

    return SimpleNamespace(
        key=name, device_type=getattr(DeviceType, kind), count=2, flops=0,
        self_cpu_time_total=cpu_us[0], cpu_time_total=cpu_us[1],
        self_device_time_total=device_us[0], device_time_total=device_us[1],
    )  # fmt: skip


class TestOperators:
    def test_on_a_gpu_every_kernel_counts_once_and_times_are_its_own(self) -> None:
        found = _operators(
            [
                averaged("aten::linear", "CPU", (5_000, 9_000), (0, 4_000)),
                averaged("aten::mm", "CPU", (1_000, 1_500), (3_000, 3_000)),
                averaged("aten::add", "CPU", (9_000, 9_000), (1_000, 1_000)),
                averaged("gemm_kernel", "CUDA", (0, 0), (3_000, 3_000)),
                averaged("add_kernel", "CUDA", (0, 0), (1_000, 1_000)),
                averaged("ProfilerStep#3", "CUDA", (0, 0), (8_000, 8_000)),
            ]
        )
        assert [(one.name, one.self_ms, one.total_ms, one.share) for one in found] == [
            ("aten::mm", 3, 3, 0.75),
            ("aten::add", 1, 1, 0.25),
            ("aten::linear", 0, 4, 0),
        ]

    def test_where_nothing_ran_on_the_gpu_times_are_the_cpus(self) -> None:
        found = _operators(
            [
                averaged("aten::linear", "CPU", (1_000, 4_000), (0, 0)),
                averaged("aten::mm", "CPU", (3_000, 3_000), (0, 0)),
            ]
        )
        assert [(one.name, one.self_ms, one.total_ms) for one in found] == [("aten::mm", 3, 3), ("aten::linear", 1, 4)]


class TestBreaking:
    def test_ctrl_c_keeps_what_was_recorded(self, profile: BuildProfile, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(profile, stage("distil", 5, breaks=True), tmp_path)
        (recorded,) = profile.stages
        assert (recorded.steps, calls(recorded, "aten::mm")) == (2, 2)
        assert any(event.get("name") == "aten::mm" for event in events(profile, recorded))
        assert json.loads((profile.folder / "profile.json").read_text(encoding="utf-8"))["stages"] == [
            {**asdict(recorded), "operators": [asdict(one) for one in recorded.operators]}
        ]

    def test_ctrl_c_after_the_recording_keeps_it_as_well(self, profile: BuildProfile, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(profile, stage("distil", 40, breaks=True), tmp_path)
        assert [one.steps for one in profile.stages] == [5]

    def test_a_folder_that_cannot_be_made_is_told_before_the_build(self, tmp_path: Path) -> None:
        (tmp_path / "reports").touch()
        with pytest.raises(ProfileUnwritable, match="cannot be written to") as told:
            BuildProfile.below(tmp_path / "reports", "tiny")
        assert "SLIPSTREAM_HOME" in told.value.remedy

    def test_a_trace_that_cannot_be_written_costs_no_build(self, profile: BuildProfile, tmp_path: Path) -> None:
        for left in profile.folder.iterdir():
            left.unlink()
        profile.folder.rmdir()
        profile.folder.touch()
        recorded = run(profile, stage("merge", 1), tmp_path)
        assert (recorded.trace, calls(recorded, "aten::mm")) == (None, 2)
        assert "could not be written" in recorded.note

    def test_names_of_recipes_make_names_of_folders(self, tmp_path: Path) -> None:
        one, other = (BuildProfile.below(tmp_path, "a b/c") for _ in range(2))
        assert one.folder != other.folder
        assert one.folder.parent == other.folder.parent == tmp_path
        assert "-a-b-c" in one.folder.name


def test_a_real_distillation_shows_its_products_and_its_backward_pass(profile: BuildProfile, tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    random = Random(1)  # noqa: S311
    lessons = [Lesson([random.randrange(3, 250) for _ in range(20)], [5, 6, 7]) for _ in range(4)]
    options = DistilOptions(layers=1, steps=12, bf16=False)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        return asdict(distil(checkpoint, lessons, out, options, progress))

    recorded = run(profile, Stage("distil", {}, work), tmp_path / "draft")
    assert recorded.steps == 5
    names = {event.get("name") for event in events(profile, recorded)}
    assert {"aten::mm", "aten::kl_div", "ProfilerStep#3"} <= names
    assert any("Backward" in str(name) for name in names)
    assert "ProfilerStep#9" not in names
    assert calls(recorded, "aten::mm") > 0


@pytest.fixture
def recipe(tmp_path: Path, tiny_recipe: TinyRecipe) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_recipe(quantization__method="gptq", evaluation=None), encoding="utf-8")
    return str(path)


class TestCommand:
    def test_a_build_shows_what_its_stages_spent_and_the_next_that_they_are_cached(
        self, tmp_path: Path, recipe: str
    ) -> None:
        home = tmp_path / "home"
        first = slipstream("build", recipe, "--profile", home=home)
        assert first.returncode == 0, first.stderr
        (folder,) = (home / "reports").iterdir()
        assert folder.name.endswith("-tiny")
        kept = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        traces = {one["stage"]: one["trace"] for one in kept["stages"]}
        assert set(traces) == {"merge", "quantize"}
        assert {f"{name}.trace.json.gz" for name in traces} | {"profile.json"} == {
            path.name for path in folder.iterdir()
        }
        rounding = next(one for one in kept["stages"] if one["stage"] == "quantize")
        assert any(one["name"] in ("aten::mm", "aten::addmm", "aten::linear") for one in rounding["operators"])
        assert "quantize: 1 step\n" in first.stdout
        assert "profiler_start" not in first.stderr
        assert "aten::" in first.stdout
        again = slipstream("build", recipe, "--profile", home=home)
        assert again.stdout.count("came from the cache and was not profiled") == 2
        force = next(line for line in again.stdout.splitlines() if "rm -r" in line and "/quantize/" in line)
        subprocess.run(["sh", "-c", force], check=True)
        forced = json.loads(slipstream("build", recipe, "--profile", "--json", home=home).stdout)
        assert [one["stage"] for one in forced["profile"]["stages"]] == ["quantize"]

    @pytest.mark.parametrize("other", [("--plan",), ("--compare", "awq"), ("--emit-script",)])
    def test_what_runs_no_single_build_is_refused(self, tmp_path: Path, recipe: str, other: tuple[str, ...]) -> None:
        done = slipstream("build", recipe, "--profile", *other, home=tmp_path / "home")
        assert (done.returncode, "--profile records one build" in done.stderr) == (2, True)

    def test_a_folder_that_cannot_be_written_ends_with_2(self, tmp_path: Path, recipe: str) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "reports").touch()
        done = slipstream("build", recipe, "--profile", home=tmp_path / "home")
        assert (done.returncode, "reports cannot be written to" in done.stderr) == (2, True)

    def test_ctrl_c_says_where_the_profile_is_of_what_ran(self, tmp_path: Path, recipe: str) -> None:
        home = tmp_path / "home"
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream.cli", "build", recipe, "--profile"],
            env={**os.environ, "SLIPSTREAM_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 300
        while not list(home.glob("reports/build-*/merge.trace.json.gz")) or not list(
            home.glob("cache/stages/quantize/.aside/*")
        ):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        (folder,) = (home / "reports").iterdir()
        assert f"profile until then: {folder}" in said
        assert json.loads((folder / "profile.json").read_text(encoding="utf-8"))["stages"][0]["stage"] == "merge"
