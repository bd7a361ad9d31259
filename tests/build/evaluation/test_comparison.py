"""`--compare`: which methods, and one table of engines that were really built."""

import json
from pathlib import Path

import pytest

from slipstream.build.evaluation.comparison import (
    MethodsUnfit,
    compare_methods,
    comparison_lines,
    parse_methods,
    variant,
)
from slipstream.build.recipe import parse_recipe
from slipstream.engines.grouping import GroupSizeMismatch
from slipstream.ensemble.bundle import BundleError, find_bundle, list_bundles
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe


class Silent:
    """Watches nothing."""

    def started(self, stage: str) -> None: ...

    def progress(self, stage: str, share: float, doing: str) -> None: ...

    def finished(self, stage: str, status: str, seconds: float) -> None: ...


@pytest.mark.parametrize("given", ["awq", "", "awq,awq", "none,awq,none"])
def test_two_methods_or_more_are_compared_each_once(given: str) -> None:
    with pytest.raises(MethodsUnfit, match="each once"):
        parse_methods(given)


def test_an_unknown_method_is_told_with_the_known_ones() -> None:
    with pytest.raises(MethodsUnfit, match="'awp' is no quantization method") as caught:
        parse_methods("none,awp")
    assert "gptq" in (caught.value.remedy or "")


def test_methods_are_compared_in_the_order_they_are_named() -> None:
    assert parse_methods(" gptq, none") == ["gptq", "none"]


def test_a_recipe_that_measures_nothing_is_refused(tiny_recipe: TinyRecipe, tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe(evaluation=None), "tiny.yaml")
    with pytest.raises(MethodsUnfit, match="no evaluation"):
        compare_methods([variant(recipe, "none"), variant(recipe, "awq")], Settings(home=tmp_path), Silent())


def test_what_does_not_fit_is_told_before_anything_is_built(tiny_recipe: TinyRecipe, tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe(quantization__group_size=48), "tiny.yaml")
    with pytest.raises(GroupSizeMismatch):
        compare_methods([variant(recipe, "none"), variant(recipe, "awq")], Settings(home=tmp_path), Silent())
    assert not (tmp_path / "cache" / "stages").exists()


def test_a_table_that_could_not_be_kept_is_told_before_anything_is_built(
    tiny_recipe: TinyRecipe, tmp_path: Path
) -> None:
    (tmp_path / "reports").write_text("a file in the way")
    recipe = parse_recipe(tiny_recipe(), "tiny.yaml")
    with pytest.raises(FileExistsError, match="reports"):
        compare_methods([variant(recipe, "none"), variant(recipe, "awq")], Settings(home=tmp_path), Silent())
    assert not (tmp_path / "cache" / "stages").exists()


def test_one_table_of_engines_made_from_one_merge(tiny_recipe: TinyRecipe, tmp_path: Path) -> None:
    recipe = parse_recipe(tiny_recipe(gates={"max_kl": 1e-6}), "tiny.yaml")
    settings = Settings(home=tmp_path, mlflow_uri=None)
    comparison = compare_methods([variant(recipe, "none"), variant(recipe, "gptq")], settings, Silent())
    none, gptq = comparison.candidates
    assert len(list((tmp_path / "cache" / "stages" / "merge").glob("*/stage.json"))) == 1
    assert none.evaluation.weights_bytes > gptq.evaluation.weights_bytes
    assert none.bundle is not None or "max_kl" in none.gate
    assert gptq.bundle is None
    assert "max_kl is" in gptq.gate
    assert [bundle.manifest.id for bundle in list_bundles(settings.bundles_dir)] == [
        one.bundle for one in comparison.candidates if one.bundle
    ]
    with pytest.raises(BundleError):
        find_bundle(settings.bundles_dir)  # none is active
    lines = list(comparison_lines(comparison))
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["", "none", "gptq"]
    assert any(line.startswith("gptq makes no bundle: max_kl is") for line in lines)
    table, document = comparison.saved
    assert table.read_text(encoding="utf-8").splitlines() == lines
    saved = json.loads(document.read_text(encoding="utf-8"))
    assert [one["method"] for one in saved["candidates"]] == ["none", "gptq"]
    assert saved["candidates"][1]["speed"]["alone"]["decode"] > 0
