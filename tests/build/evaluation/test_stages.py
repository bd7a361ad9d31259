"""What the measuring stages are made of: the text they are held to, and the code that decides a number."""

import dataclasses
from pathlib import Path

import pytest

from slipstream.build.calibration import source_chunks
from slipstream.build.evaluation import golden, stages
from slipstream.build.evaluation.stages import Material, evaluation_stages, read_material
from slipstream.build.recipe import Recipe, parse_recipe
from slipstream.build.stages import package_digest, stage_digest
from slipstream.engines.host import probe_host
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe
from tests.build.golden.sets import write_golden

SETTINGS = Settings(mlflow_uri=None, judge_url=None, judge_model=None)


def material_of(recipe: Recipe) -> Material:
    material = read_material(recipe, source_chunks(recipe.calibration.sources), SETTINGS)
    assert material is not None
    return material


@pytest.fixture
def recipe(tiny_recipe: TinyRecipe) -> Recipe:
    return parse_recipe(tiny_recipe(), "tiny.yaml")


def test_speeds_are_of_the_code_that_runs_the_engine(recipe: Recipe) -> None:
    (speed,) = [stage for stage in evaluation_stages(recipe, [], material_of(recipe)) if stage.name == "speed"]
    assert speed.inputs["code"]["engines"] == package_digest("engines.openvino")


def test_a_golden_set_may_be_about_a_small_source_that_nothing_is_calibrated_on(
    tiny_recipe: TinyRecipe, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "cart.py").write_text("def add_item(cart, item):\n    cart.append(item)\n")
    golden = write_golden(tmp_path / "golden.yaml", str(tmp_path / "shop"), ["gate"])
    found = material_of(parse_recipe(tiny_recipe(evaluation__golden=str(golden)), "tiny.yaml"))
    assert found.golden is not None
    assert [text.splitlines()[0] for text in found.answers] == ["def add_item(cart, item):"]
    before = found.golden_sources_sha256
    (tmp_path / "shop" / "cart.py").write_text("def add_item(cart, item):\n    cart.insert(0, item)\n")
    after = material_of(parse_recipe(tiny_recipe(evaluation__golden=str(golden)), "tiny.yaml"))
    assert after.golden_sources_sha256 != before


def test_what_was_measured_holds_for_cpus_that_multiply_alike(
    tiny_recipe: TinyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Virtual machines have one name for many CPUs, and a home may move from one to the next."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "cart.py").write_text("def add_item(cart, item):\n    cart.append(item)\n")
    questions = write_golden(tmp_path / "golden.yaml", str(tmp_path / "shop"), ["gate"])
    recipe = parse_recipe(tiny_recipe(evaluation__golden=str(questions)), "tiny.yaml")

    def digests(*isa: str) -> dict[str, str]:
        host = dataclasses.replace(probe_host(), isa=frozenset(isa))
        for module in (stages, golden):
            monkeypatch.setattr(module, "probe_host", lambda host=host: host)
        made = evaluation_stages(recipe, [], material_of(recipe))
        return {stage.name: stage_digest(stage.name, stage.inputs) for stage in made}

    plain, rich = digests("avx2", "sse2"), digests("avx2", "avx512_bf16")
    assert plain == digests("avx2", "aes")
    assert {name for name in plain if plain[name] != rich[name]} == {"quality", "baseline", "answers", "speed"}
