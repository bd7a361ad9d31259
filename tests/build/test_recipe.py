"""Recipes: what is shipped, and how a mistake in one is told."""

import os
from pathlib import Path

import pytest

from slipstream.build.options import EmbedderOptions
from slipstream.build.recipe import (
    Recipe,
    RecipeInvalid,
    RecipeNotFound,
    known_keys,
    load_recipe,
    nearest_key,
    parse_recipe,
    shipped_recipes,
)

MINIMAL = 'version: "0.1"\nadapter: null\n'


def fault(text: str) -> RecipeInvalid:
    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(text, "my.yaml")
    assert caught.value.message.startswith("my.yaml")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("written", "place", "nearest"),
    [
        ("quantisation: {method: awq}", "quantisation", "quantization"),
        ("quantization: {metod: awq}", "quantization.metod", "quantization.method"),
        ("quantization: {groupsize: 32}", "quantization.groupsize", "quantization.group_size"),
        ("group_size: 32", "group_size", "quantization.group_size"),  # of another section
        ("method: awq", "method", "quantization.method"),
        ("serving: {max_concurency: 4}", "serving.max_concurency", "serving.max_concurrency"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest_known_key(written: str, place: str, nearest: str) -> None:
    error = fault(MINIMAL + written)
    assert f"unknown key '{place}'" in error.message
    assert f"nearest known key is '{nearest}'" in error.message
    assert error.remedy == f"write {nearest} instead of {place}"


def test_every_fault_is_told_at_once() -> None:
    error = fault("version: 0.1\nquantization: {method: int3, group_size: 0}\nmerge: {tolerance: .inf}")
    for place in ("version", "adapter is missing", "quantization.method", "quantization.group_size", "merge.tolerance"):
        assert place in error.message


def test_a_version_that_yaml_takes_for_a_number_is_told_how_to_be_written() -> None:
    assert fault("version: 0.1\nadapter: null").remedy == 'write version: "0.1"'


@pytest.mark.parametrize(
    "text",
    [
        "version: '1'\nversion: '2'\nadapter: null",
        "version: '1'\nadapter: null\nquantization: {bits: 4, bits: 8}",
    ],
)
def test_a_key_written_twice_is_refused_with_its_line(text: str) -> None:
    error = fault(text)
    assert "written twice" in error.message
    assert "line " in error.message


@pytest.mark.parametrize("margin", [".inf", ".nan", "-0.1", "wide"])
def test_a_margin_that_is_no_number_of_points_is_refused(margin: str) -> None:
    """``bundle.json`` has no infinity; 10 is as wide as scores go."""
    assert (
        "serving.context_margin" in fault(f"version: '1'\nadapter: null\nserving: {{context_margin: {margin}}}").message
    )


@pytest.mark.parametrize(
    "text",
    ["", "- a", "word", "a: [", "\t: 1", "? [1, 2]\n: 3", "!!python/object/apply:os.system [a]", "3: 4", "&a [*a]"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_recipe_is_an_error_of_ours(text: str) -> None:
    fault(text)


@pytest.mark.parametrize("text", ["", "- a", "word"])
def test_what_holds_no_keys_is_told_where_to_start(text: str) -> None:
    error = fault(text)
    assert error.message == "my.yaml holds no keys"
    assert error.remedy.endswith("default.yaml")


def test_a_value_that_aliases_blew_up_is_cut_in_the_message() -> None:
    """Each line is nine of the one before: megabytes, if it was written out."""
    lines = ["a0: &a0 [lol, lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 7))]
    error = fault("\n".join([*lines, "version: *a6", "adapter: *a6", "calibration: {sources: *a6}"]))
    assert "version" in error.message
    assert len(error.message) + len(error.remedy) < 5000


def test_of_very_many_faults_the_first_are_told() -> None:
    error = fault(MINIMAL + f"calibration: {{sources: [{', '.join(['1'] * 5000)}]}}")
    assert "calibration.sources.0" in error.message
    assert len(error.message) < 5000


def test_a_recipe_nested_without_end_is_told() -> None:
    assert "nested too deeply" in fault("version: " + "[" * 200_000).message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.yaml")
    with pytest.raises(RecipeInvalid, match="is no file"):
        load_recipe(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize("reference", ["a\0b", "x" * 5000])
def test_what_can_be_no_file_name_is_an_error_of_ours(reference: str) -> None:
    with pytest.raises(RecipeInvalid, match="cannot be read"):
        load_recipe(reference)


def test_a_file_that_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"version: \xff\xfe")
    with pytest.raises(RecipeInvalid, match="utf-8"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_recipe_that_is_not_there_names_the_shipped_ones(tmp_path: Path) -> None:
    for reference in ("defualt", str(tmp_path), str(tmp_path / "none.yaml")):
        with pytest.raises(RecipeNotFound) as caught:
            load_recipe(reference)
        assert all(name in caught.value.remedy for name in ("base", "default"))


def test_a_path_is_read_like_a_shipped_name(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(MINIMAL, encoding="utf-8")
    assert load_recipe(str(tmp_path / "r.yaml")).adapter is None


def test_the_shipped_recipes_are_the_promoted_adapter_in_4_bits_and_the_bare_base() -> None:
    assert [name for name in shipped_recipes() if load_recipe(name).target == "openvino"] == ["base", "default"]
    default, base = load_recipe("default"), load_recipe("base")
    assert default.adapter == "models:/code-assistant@production"
    assert default.quantization.spec.method == "gptq"
    assert default.release_name("smollm2-135m", "p1") == "production-v0.1-smollm2-135m-gptq-p1"
    assert (base.adapter, base.quantization.method) == (None, "none")
    assert base.release_name("smollm2-135m", "p1") == "base-v0.1-smollm2-135m-fp16-p1"


def test_default_yaml_spells_out_the_defaults() -> None:
    """Whoever copies it sees the values that hold, and the code and the file cannot drift apart.

    Adapters have no default: each fits one model, and a recipe may name another. Nor have gates: what is good enough is
    said of one model.
    """
    default = load_recipe("default")
    named = EmbedderOptions(adapter="sample:code-search-lora")
    assert default == Recipe(version=default.version, adapter=default.adapter, embedder=named, gates=default.gates)
    assert default.gates.max_perplexity_rise == 0.05


def test_options_that_have_no_effect_are_no_input_of_a_stage() -> None:
    one = parse_recipe(MINIMAL + "quantization: {method: none, group_size: 64}", "")
    other = parse_recipe(MINIMAL + "quantization: {method: none, group_size: 128}", "")
    assert one.quantization.effective() == other.quantization.effective()
    assert parse_recipe(MINIMAL, "").quantization.effective()["group_size"] == 32


def test_every_known_key_is_its_own_nearest() -> None:
    for key in known_keys(Recipe):
        assert nearest_key(key) == key


def test_a_draft_may_be_named_by_its_method_alone() -> None:
    assert parse_recipe(MINIMAL + "draft: auto\n", "").draft.method == "auto"
    assert parse_recipe(MINIMAL + "draft: {method: prompt_lookup, lengths: [3]}\n", "").draft.lengths == (3,)
    assert "draft.method" in fault(MINIMAL + "draft: fastest\n").message
    assert "each length once" in fault(MINIMAL + "draft: {lengths: [2, 2]}\n").message
    assert "1 to 16" in fault(MINIMAL + "draft: {lengths: [0]}\n").message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evaluation: null\ngates: {max_kl: 0.1}\n", "gates.max_kl needs an evaluation"),
        ("evaluation: {golden: null}\ngates: {min_golden_pass_rate: 0.5}\n", "needs a golden set"),
        ("evaluation: {golden: null}\ngates: {max_length_change: 0.1}\n", "max_length_change needs a golden set"),
        ("quantization: {method: fp8}\n", "fp8 needs target: tensorrt_llm"),
        ("target: tensorrt_llm\n", "belong together"),
        (
            (
                "target: tensorrt_llm\ntensorrt_llm: {mode: llmapi, gpu: h100}\nevaluation: null\n"
                "serving: {batch_invariant: true}\n"
            ),
            "serving.batch_invariant needs target: openvino",
        ),
        ("evaluation: {tokens: 512, window: 1024}\n", "a window of 1024 tokens is more than the 512"),
        ("evaluation: {goldn: null}\n", "the nearest known key is 'evaluation.golden'"),
    ],
)
def test_what_could_only_fail_after_hours_is_refused_when_read(text: str, said: str) -> None:
    assert said in fault(MINIMAL + text).message


def test_a_build_that_measures_nothing_needs_no_gate() -> None:
    assert parse_recipe(MINIMAL + "evaluation: null\n", "").evaluation is None
