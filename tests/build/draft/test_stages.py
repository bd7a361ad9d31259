"""The stages that find a draft, on a tiny real model: taught, measured beside none, kept or not, and served."""

import json
from pathlib import Path

import pytest

from slipstream.build.draft.cut import TooManyLayers
from slipstream.build.graph import stage_names
from slipstream.build.pipeline import BuildReport, Pipeline, Watcher
from slipstream.build.recipe import parse_recipe
from slipstream.ensemble.manifest import EVALUATION
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe
from tests.build.evaluation.test_comparison import Silent

SMALL = {"layers": 1, "steps": 4, "prompts": 8, "lengths": [2]}


class Home:
    """Builds the tiny recipe with other drafts in one home."""

    def __init__(self, path: Path, recipe: TinyRecipe) -> None:
        self.settings, self._recipe = Settings(home=path, mlflow_uri=None), recipe

    def build(self, method: str, watcher: Watcher | None = None, **changed: object) -> BuildReport:
        text = self._recipe(draft={**SMALL, "method": method, **changed}, quantization__method="none")
        return Pipeline(parse_recipe(text, "tiny.yaml"), self.settings, watcher or Silent()).build()


class Killed(Exception):
    pass


class Killing(Silent):
    """Breaks off the distillation near its end."""

    def progress(self, stage: str, share: float, doing: str) -> None:
        if stage == "distil" and share > 0.9:
            raise Killed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: TinyRecipe) -> Home:
    return Home(tmp_path_factory.mktemp("drafts"), tiny_recipe)


def ran(report: BuildReport) -> set[str]:
    return {stage.stage for stage in report.stages if stage.status == "ran"}


def test_only_what_a_method_needs_is_made() -> None:
    def names(method: str) -> tuple[str, ...]:
        recipe = parse_recipe(f'version: "1"\nadapter: null\nevaluation: null\ndraft: {method}\n', "")
        return stage_names(recipe, Settings())[6:-1]

    assert names("none") == ()
    assert names("prompt_lookup") == ("speculate",)
    assert names("distilled") == names("auto") == ("lessons", "distil", "draft", "speculate")


def test_a_draft_as_deep_as_the_model_is_refused_before_any_work(tmp_path: Path, tiny_recipe: TinyRecipe) -> None:
    fresh = Home(tmp_path, tiny_recipe)
    with pytest.raises(TooManyLayers, match="of 2 layers cannot be cut from a model of 2"):
        fresh.build("auto", layers=2)
    assert not (fresh.settings.cache_dir / "stages").exists()


def test_a_draft_that_the_recipe_names_is_in_the_bundle_with_its_numbers(home: Home) -> None:
    report = home.build("distilled")
    bundle = report.bundle
    assert {"lessons", "distil", "draft", "speculate"} <= ran(report)
    assert bundle.manifest.draft is not None
    assert (bundle.manifest.draft.method, bundle.manifest.draft.tokens) == ("draft", 2)
    assert (bundle.draft_dir / "openvino_model.xml").is_file()
    assert "draft/openvino_model.bin" in {entry.path for entry in bundle.manifest.files}
    assert not list(bundle.problems())
    measured = json.loads((bundle.path / EVALUATION).read_text(encoding="utf-8"))["draft"]
    assert [one["candidate"]["method"] for one in measured["measured"]] == ["none", "draft"]
    assert measured["measured"][1]["tokens_per_step"] >= 1
    assert measured["why"]
    assert not list((home.settings.cache_dir / "unfinished").iterdir())


def test_auto_tries_them_all_and_its_choice_is_what_is_served(home: Home) -> None:
    home.build("distilled")
    report = home.build("auto")
    assert "distil" not in ran(report)  # the same lessons, the same draft
    assert report.evaluation is not None
    found = report.evaluation.draft
    assert found is not None
    assert [one["candidate"]["method"] for one in found["measured"]] == ["none", "prompt_lookup", "draft"]
    draft = report.bundle.manifest.draft
    assert (draft.method if draft else "none") == found["kept"]["method"]
    assert (report.bundle.draft_dir).exists() == (found["kept"]["method"] == "draft")


def test_a_method_that_does_not_pay_is_kept_where_the_recipe_names_it_and_told(home: Home) -> None:
    report = home.build("prompt_lookup", lengths=[1, 2])
    assert report.bundle.manifest.draft is not None
    assert report.bundle.manifest.draft.method == "prompt_lookup"
    assert report.evaluation is not None
    assert report.evaluation.draft is not None
    assert "kept" in report.evaluation.draft["why"]


def test_a_draft_of_other_lengths_is_measured_again_and_not_taught_again(home: Home) -> None:
    home.build("distilled")
    assert ran(home.build("distilled", lengths=[3])) == {"speculate", "bundle"}
    assert "distil" in ran(home.build("distilled", steps=5))


def test_a_distillation_that_is_killed_goes_on_in_the_next_build(home: Home) -> None:
    with pytest.raises(Killed):
        home.build("distilled", Killing(), steps=60)
    assert list((home.settings.cache_dir / "unfinished").iterdir())
    report = home.build("distilled", steps=60)
    assert {"distil", "draft", "speculate"} <= ran(report)
    assert "lessons" not in ran(report)
    facts = [
        json.loads(path.read_text()) for path in (home.settings.cache_dir / "stages" / "distil").glob("*/stage.json")
    ]
    assert 50 in [one["facts"]["resumed_at"] for one in facts]
    assert not list((home.settings.cache_dir / "unfinished").iterdir())
