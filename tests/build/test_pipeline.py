"""The whole build on tiny real models: what runs, what is taken from the cache, and what stops it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream import EnvironmentFault
from slipstream.build.durable import DiskFull
from slipstream.build.gates import GateFailed
from slipstream.build.graph import stage_names
from slipstream.build.merge import MergeDisagrees
from slipstream.build.pipeline import BuildReport, Pipeline, PlanReport
from slipstream.build.recipe import parse_recipe
from slipstream.build.registry import Registry
from slipstream.build.stages import Status
from slipstream.engines.grouping import GroupSizeMismatch
from slipstream.ensemble.bundle import BundleError, find_bundle
from slipstream.ensemble.manifest import EVALUATION
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe


class Recorder:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.shares: list[float] = []

    def started(self, stage: str) -> None:
        self.events.append(("started", stage))

    def progress(self, stage: str, share: float, doing: str) -> None:
        self.shares.append(share)

    def finished(self, stage: str, status: Status, seconds: float) -> None:
        self.events.append((status, stage))


class Home:
    """A home, and the recipe that is built in it."""

    def __init__(self, path: Path, recipe: TinyRecipe) -> None:
        self.settings = Settings(home=path, mlflow_uri=None)
        self._recipe = recipe

    def pipeline(self, watcher: Recorder | None = None, **changed: object) -> Pipeline:
        return Pipeline(parse_recipe(self._recipe(**changed), "tiny.yaml"), self.settings, watcher or Recorder())

    def build(self, *, activate: bool = True, **changed: object) -> BuildReport:
        return self.pipeline(**changed).build(activate=activate)

    def plan(self, **changed: object) -> PlanReport:
        return self.pipeline(**changed).plan()

    def ran(self, **changed: object) -> set[str]:
        return {stage.stage for stage in self.build(**changed).stages if stage.status == "ran"}

    def output(self, stage: str) -> Path:
        folders = (self.settings.cache_dir / "stages" / stage).glob("*/stage.json")
        return max(folders, key=lambda path: path.stat().st_mtime).parent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: TinyRecipe) -> Iterator[Home]:
    """A home in which the recipe, unchanged, was built."""
    built = Home(tmp_path_factory.mktemp("home"), tiny_recipe)
    built.build()
    yield built
    assert not list(built.settings.cache_dir.glob("stages/*/.aside/*"))


def test_a_first_build_runs_every_stage_in_order_and_activates_its_bundle(
    tmp_path: Path, tiny_recipe: TinyRecipe
) -> None:
    fresh, recorder = Home(tmp_path, tiny_recipe), Recorder()
    report = fresh.pipeline(recorder).build()
    stages = stage_names(parse_recipe(tiny_recipe(), "tiny.yaml"), Settings())
    ran: list[tuple[str, str]] = [("asked", "resolve"), *(("ran", stage) for stage in stages[1:])]
    expected = [event for status, stage in ran for event in (("started", stage), (status, stage))]
    assert recorder.events == expected
    assert all(0 <= share <= 1 for share in recorder.shares)
    assert not report.unchanged
    assert not list(report.bundle.problems())
    assert report.bundle.manifest.release_name == "test-v1.0-llama-awq-p1"
    assert report.bundle.manifest.lineage.calibration_sha256 is not None
    assert find_bundle(fresh.settings.bundles_dir).manifest.id == report.bundle.manifest.id


def test_an_unchanged_build_runs_nothing(home: Home) -> None:
    report = home.build()
    assert report.unchanged
    assert [stage.status for stage in report.stages] == ["asked", *["cached"] * 8]


@pytest.mark.parametrize(
    ("changed", "ran"),
    [
        ({"quantization__method": "none"}, {"compile", "quality", "speed", "bundle"}),  # the reference is that engine
        ({"quantization__symmetric": True}, {"quantize", "compile", "quality", "speed", "bundle"}),
        ({"quantization__ratio": 0.5}, {"quantize", "compile", "quality", "speed", "bundle"}),
        ({"calibration__tokens": 300}, {"quantize", "compile", "quality", "speed", "bundle"}),
        ({"evaluation__window": 256}, {"quality", "bundle"}),
        ({"evaluation": None}, {"bundle"}),
        ({"embedder__minimum_cosine": 0.8}, {"embedder", "bundle"}),
        ({"serving__max_concurrency": 4}, {"speed", "bundle"}),
        ({"version": "1.1"}, {"bundle"}),
    ],
    ids=str,
)
def test_what_changed_runs_again_and_nothing_else(home: Home, changed: dict[str, object], ran: set[str]) -> None:
    planned = {stage for stage, reasons in home.plan(**changed).stages if reasons}
    assert planned == ran
    assert home.ran(**changed) == ran
    assert home.ran(**changed) == set()


def test_what_was_measured_lies_beside_the_manifest_and_is_no_part_of_the_id(home: Home) -> None:
    report = home.build()
    assert report.evaluation is not None
    kept = json.loads((report.bundle.path / EVALUATION).read_text(encoding="utf-8"))
    assert kept == report.evaluation.model_dump(mode="json")
    assert kept["quality"]["code"]["kl"] > 0
    assert kept["quality"]["code"]["tokens"] == 4 * 127
    assert kept["speed"]["alone"]["decode"] > 0
    assert kept["speed"]["peak_memory_bytes"] > 10_000_000
    assert kept["stages"]["quantize"]["peak_memory_bytes"] > 10_000_000
    assert EVALUATION not in {entry.path for entry in report.bundle.manifest.files}
    (report.bundle.path / EVALUATION).unlink()
    assert home.build().unchanged  # nothing is measured again for it
    assert (report.bundle.path / EVALUATION).is_file()


def test_a_gate_that_is_not_passed_makes_no_bundle_and_keeps_what_was_measured(home: Home) -> None:
    before = sorted(home.settings.bundles_dir.iterdir())
    pipeline = home.pipeline(gates={"max_kl": 1e-9, "max_perplexity_rise": 1e9})
    with pytest.raises(GateFailed, match=r"max_kl is .*, at most 1e-09 is allowed") as caught:
        pipeline.build()
    assert caught.value.exit_code == 1
    assert "max_perplexity_rise" not in caught.value.message
    assert pipeline.evaluation is not None
    assert [gate.passed for gate in pipeline.evaluation.gates] == [True, False]
    assert sorted(home.settings.bundles_dir.iterdir()) == before
    assert home.ran(gates={"max_kl": 1e9}) == {"bundle"}  # looser, and nothing is measured again


def test_a_group_size_is_checked_against_the_base_model_before_any_stage(home: Home) -> None:
    recorder = Recorder()
    with pytest.raises(GroupSizeMismatch, match="group size 48 does not divide every input width"):
        home.pipeline(recorder, quantization__group_size=48).build()
    assert {stage for _, stage in recorder.events} == {"resolve"}
    with pytest.raises(GroupSizeMismatch):
        home.plan(quantization__group_size=48)


def test_a_build_may_leave_the_active_bundle_alone(home: Home) -> None:
    active = home.build().bundle.manifest.id
    other = home.build(activate=False, version="7.0").bundle.manifest.id
    assert find_bundle(home.settings.bundles_dir).manifest.id == active != other


def test_edited_calibration_sources_run_what_reads_them(home: Home, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "\n\n".join(f"def f{n}(x: int) -> int:\n    '''Adds {n} to x.'''\n    return x + {n}" for n in range(99))
    )
    assert home.ran(calibration__sources=[str(source)]) == {
        "quantize", "compile", "embedder", "quality", "speed", "bundle",
    }  # fmt: skip
    source.write_text(source.read_text().replace("Adds", "Sums"))
    reasons = dict(home.plan(calibration__sources=[str(source)]).stages)
    assert reasons["merge"] == ()
    assert [reason.partition(":")[0] for reason in reasons["quantize"]] == ["calibration.sources"]


def test_a_plan_names_the_change_and_writes_nothing(home: Home) -> None:
    home.build()
    before = sorted(home.settings.root.rglob("*"))
    plan = home.plan(quantization__method="gptq")
    assert dict(plan.stages)["merge"] == ()
    assert "quantization.method: awq → gptq" in dict(plan.stages)["quantize"]
    assert dict(plan.stages)["bundle"] == tuple(
        f"{stage} runs" for stage in ("quantize", "compile", "quality", "speed")
    )
    assert plan.bundle_id is None
    assert home.plan().bundle_id == home.build().bundle.manifest.id
    assert sorted(home.settings.root.rglob("*")) == before


def flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_bundle_is_made_anew_under_its_id(home: Home) -> None:
    bundle = home.build().bundle
    flip(bundle.engine_dir / "openvino_model.bin")
    assert dict(home.plan().stages)["bundle"] == (f"{bundle.manifest.id} is damaged",)
    again = home.build()
    assert {stage.stage for stage in again.stages if stage.status == "ran"} == {"bundle"}
    assert again.bundle.manifest.id == bundle.manifest.id
    assert not list(again.bundle.problems())


def test_a_damaged_stage_is_not_built_upon(home: Home) -> None:
    home.build()
    flip(home.output("merge") / "checkpoint" / "model.safetensors")
    assert {"merge", "quantize"} <= home.ran(quantization__group_size=64)
    assert home.ran() == set()


def test_a_part_of_a_build_is_made_sound_and_without_the_rest(home: Home) -> None:
    outputs = home.pipeline().make("quantize")
    assert list(outputs) == ["merge", "reference", "quantize"]
    for damaged in ("reference", "quantize"):  # what the last stage reads as well: its reader gets both
        flip(outputs[damaged].folder / "openvino_model.bin")
        outputs = home.pipeline().make("quantize")
        assert [outputs[stage].is_sound() for stage in ("reference", "quantize")] == [True, True]


def test_the_same_build_from_nothing_gives_the_same_bundle(home: Home, tmp_path: Path, tiny_recipe: TinyRecipe) -> None:
    assert Home(tmp_path, tiny_recipe).build().bundle.manifest == home.build().bundle.manifest


# --- what stops a build ----------------------------------------------------------------------------------------------


def write_tiny_adapter(base: Path, out: Path, *, seed: int = 0) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base)
        tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(out)
    return out


@pytest.fixture
def promoted(home: Home, tmp_path: Path) -> str:
    """A real adapter of the tiny base, promoted in the home's MLflow."""
    base = Path(parse_recipe(home._recipe(), "").base_model)
    adapter = write_tiny_adapter(base, tmp_path / "lora")
    Registry(home.settings.registry_uri).register(adapter, "tiny", "production")
    return "models:/tiny@production"


def test_an_adapter_is_merged_and_named_in_the_lineage(home: Home, promoted: str, tmp_path: Path) -> None:
    report = home.build(adapter=promoted)
    assert {stage.stage for stage in report.stages if stage.status == "ran"} == {
        "merge", "reference", "quantize", "compile", "quality", "speed", "bundle", "publish",
    }  # fmt: skip
    lineage = report.bundle.manifest.lineage.adapter
    assert lineage is not None
    assert (lineage.name, lineage.version) == ("tiny", "1")
    assert home.ran(adapter=promoted) == set()
    other = write_tiny_adapter(Path(report.bundle.manifest.lineage.base_model), tmp_path / "other", seed=1)
    newer = Registry(home.settings.registry_uri).register(other, "tiny", "production")
    (reason,) = dict(home.plan(adapter=promoted).stages)["merge"]
    assert reason == f"adapter: {lineage.sha256[:12]}… → {newer.sha256[:12]}…"


def test_a_gate_that_says_no_leaves_no_bundle(home: Home, promoted: str) -> None:
    before = sorted(home.settings.bundles_dir.iterdir())
    with pytest.raises(MergeDisagrees) as caught:
        home.build(adapter=promoted, merge__tolerance=1e-30)
    assert caught.value.exit_code == 1
    assert sorted(home.settings.bundles_dir.iterdir()) == before


def test_an_adapter_that_is_not_promoted_is_told_before_any_stage(home: Home) -> None:
    recorder = Recorder()
    with pytest.raises(Exception, match="nobody"):
        home.pipeline(recorder, adapter="models:/nobody@production").build()
    assert recorder.events == [("started", "resolve")]


def test_a_disk_too_small_for_the_whole_build_is_told_before_it_starts(
    tmp_path: Path, tiny_recipe: TinyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, recorder = Home(tmp_path, tiny_recipe), Recorder()
    monkeypatch.setattr("slipstream.build.pipeline.free_bytes", lambda folder: 1_500_000)  # enough for a merge
    with pytest.raises(DiskFull, match="merge, reference, quantize, compile, embedder, quality, speed"):
        fresh.pipeline(recorder).build()
    assert recorder.events == [("started", "resolve"), ("asked", "resolve")]


def test_a_build_that_failed_goes_on_where_it_stopped(
    tmp_path: Path, tiny_recipe: TinyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Home(tmp_path, tiny_recipe)

    def fail(*args: object, **options: object) -> None:
        raise EnvironmentFault("no more memory")

    with monkeypatch.context() as patched:
        patched.setattr("slipstream.engines.openvino.target.OpenVinoTarget.compile", fail)
        with pytest.raises(EnvironmentFault):
            fresh.build()
    with pytest.raises(BundleError):
        find_bundle(fresh.settings.bundles_dir)
    assert fresh.ran() == {"compile", "embedder", "quality", "speed", "bundle"}
