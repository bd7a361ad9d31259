"""`slipstream promote` and `slipstream rollback` as a user runs them: real adapters, engines, questions and answers."""

import json
from pathlib import Path

import pytest
import yaml

from slipstream.build.mlflow_client import open_client
from slipstream.build.pipeline import needed
from slipstream.build.promotion.comparison import MINIMUM_QUESTIONS
from slipstream.build.recipe import parse_recipe
from slipstream.build.registry import Registry
from slipstream.build.stages import Stage
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe
from tests.build.golden.sets import write_golden
from tests.build.lora import write_lora
from tests.conftest import invoke, slipstream

NAME = "tiny"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: TinyRecipe) -> Path:
    """A home with two versions of an adapter, a recipe and a golden set; `slipstream build` never ran in it."""
    path = tmp_path_factory.mktemp("promoting")
    text = tiny_recipe(quantization={"method": "none"}, serving={"min_confidence": 0.0})
    source = parse_recipe(text, "tiny.yaml").calibration.sources[0]
    golden = write_golden(path / "golden.yaml", source, ["gate"] * MINIMUM_QUESTIONS)
    fields = yaml.safe_load(text)
    fields["evaluation"]["golden"] = str(golden)
    (path / "tiny.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    registry = Registry(Settings(home=path, mlflow_uri=None).registry_uri)
    for seed in (1, 2):
        registry.register(write_lora(path / f"lora-{seed}", seed=seed), NAME, None)
    return path


@pytest.mark.integration
def test_from_the_first_to_a_refusal_and_back(home: Path) -> None:
    recipe = str(home / "tiny.yaml")
    first = slipstream("promote", f"models:/{NAME}/1", "--recipe", recipe, "--reason", "first", "--json", home=home)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert (told["outcome"], told["comparison"]) == ("first", None)
    assert 0 <= told["score"] <= 1

    again = slipstream("promote", f"models:/{NAME}@production", "--recipe", recipe, home=home)
    assert (again.returncode, again.stdout) == (0, "tiny version 1 is in production already; nothing was compared\n")

    refused = slipstream("promote", f"models:/{NAME}/2", "--recipe", recipe, home=home)
    assert refused.returncode == 1, refused.stderr
    assert "20 questions" in refused.stdout
    assert "95% interval" in refused.stdout
    assert "version 2 of 'tiny' is not shown to be better than version 1" in refused.stderr

    accepted = slipstream("promote", f"models:/{NAME}/2", "--recipe", recipe, "--margin", "0.99", "--json", home=home)
    assert accepted.returncode == 0, accepted.stderr
    told = json.loads(accepted.stdout)
    assert (told["outcome"], told["production_before"], len(told["comparison"]["questions"])) == ("promoted", "1", 20)
    with open_client(Settings(home=home, mlflow_uri=None).registry_uri) as client:
        kept = client.get_run(told["run_id"]).data.params
    assert (kept["recipe"], kept["golden_set"], kept["margin"]) == (recipe, str(home / "golden.yaml"), "0.99")
    assert not (home / "bundles").exists(), "measuring makes no bundle"

    back = slipstream("rollback", "--name", NAME, "--reason", "worse", home=home)
    assert back.returncode == 0, back.stderr
    assert "tiny version 1 is in production again, in place of version 2; there is nothing before it" in back.stdout
    none = slipstream("rollback", "--name", NAME, "--json", home=home)
    assert none.returncode == 2
    error = json.loads(none.stderr.splitlines()[-1])["error"]
    assert error["type"] == "NoRollback"
    assert "slipstream promote models:/tiny/VERSION" in error["remedy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "tiny/1"), "names no registered model"),
        (("promote", "models:/tiny/9"), "has no version 9"),
        (("promote", "models:/tiny/1", "--margin", "1"), "--margin"),
        (("promote", "models:/tiny/1", "--margin", "nan"), "nan is no margin"),
        (("promote", "models:/tiny/1", "--recipe", "nowhere.yaml"), "there is no recipe"),
        (("rollback", "--name", "nobody"), "no model 'nobody' is registered"),
    ],
)
def test_what_cannot_be_done_says_why(home: Path, arguments: tuple[str, ...], message: str) -> None:
    done = invoke(*arguments, home=home)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_without_a_golden_set_has_nothing_to_ask(home: Path, tiny_recipe: TinyRecipe, tmp_path: Path) -> None:
    recipe = tmp_path / "silent.yaml"
    recipe.write_text(tiny_recipe(), encoding="utf-8")
    done = invoke("promote", f"models:/{NAME}/1", "--recipe", str(recipe), home=home)
    assert done.exit_code == 2
    assert "names no golden set" in done.stderr


def test_only_stages_that_lead_to_the_answers_are_made() -> None:
    def stage(name: str, *after: str) -> Stage:
        return Stage(name, {}, lambda outputs, out, progress: {}, after=after)

    graph = [
        stage("merge"), stage("compile", "merge"), stage("speed", "compile"), stage("embedder"),
        stage("contexts", "merge", "embedder"), stage("answers", "contexts", "compile"), stage("golden", "answers"),
    ]  # fmt: skip
    assert [one.name for one in needed(graph, "answers")] == ["merge", "compile", "embedder", "contexts", "answers"]
