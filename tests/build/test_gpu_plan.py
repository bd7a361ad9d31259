"""Recipes for GPUs on a machine without one: planned, refused, and written out as a script."""

import json
import subprocess
from pathlib import Path
from time import perf_counter

import pytest

from slipstream.build.gpu_plan import GpuPlan, NotForGpus
from slipstream.build.graph import stage_names
from slipstream.build.pipeline import Pipeline
from slipstream.build.recipe import RecipeInvalid, load_recipe, parse_recipe
from slipstream.engines.registry import target
from slipstream.engines.tensorrt_llm.planning.fit import DoesNotFit
from slipstream.engines.tensorrt_llm.planning.quantization import UnsupportedQuantization
from slipstream.engines.tensorrt_llm.planning.shapes import ShapeUnknown
from slipstream.settings import Settings
from tests.build.evaluation.test_comparison import Silent
from tests.conftest import slipstream
from tests.tiny_llama import write_tiny_checkpoint

GPU = """
version: "0.1"
adapter: null
base_model: {base}
quantization: {{method: none}}
target: tensorrt_llm
tensorrt_llm: {{gpu: l40s, max_input_len: 1024, max_seq_len: {length}, max_num_tokens: 2048}}
evaluation: null
"""


def gpu_recipe(base: str, length: int = 2048) -> str:
    return GPU.format(base=base, length=length)


def test_a_model_that_cannot_fit_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    text = gpu_recipe("hf:meta-llama/Llama-3.1-8B-Instruct").replace("l40s", "a10g").replace(
        "max_num_tokens: 2048", "max_num_tokens: 2048, kv_cache: {full_sequences: 60}"
    )  # fmt: skip
    recipe = parse_recipe(text.replace("max_seq_len: 2048", "max_seq_len: 65536"), "big.yaml")
    started = perf_counter()
    with pytest.raises(DoesNotFit, match="a10g has"):
        Pipeline(recipe, Settings(home=tmp_path), Silent()).plan()
    assert perf_counter() - started < 1
    assert not (tmp_path / "cache").exists()


def test_a_base_model_in_a_folder_tells_its_shape(tmp_path: Path) -> None:
    base = write_tiny_checkpoint(tmp_path / "llama")
    plan = GpuPlan.of(parse_recipe(gpu_recipe(str(base), 1500), "tiny.yaml"))
    assert plan.shape.hidden_size == 64
    assert plan.memory.full_sequences > 1000


def test_a_model_nobody_knows_is_told(tmp_path: Path) -> None:
    with pytest.raises(ShapeUnknown, match="shape of hf:nobody/knows-this is not in the table") as refused:
        GpuPlan.of(parse_recipe(gpu_recipe("hf:nobody/knows-this"), "r.yaml"))
    assert "name its folder; the table has: hf:meta-llama/Llama-3.1-8B-Instruct" in (refused.value.remedy or "")
    with pytest.raises(ShapeUnknown, match="No such file"):
        GpuPlan.of(parse_recipe(gpu_recipe("/no/folder"), "r.yaml"))


def test_a_draft_that_the_gpus_cannot_share_is_refused_before_anything_is_fetched() -> None:
    draft = "{method: draft_target, draft_model: 'hf:Qwen/Qwen2.5-Coder-0.5B-Instruct'}"
    changed = ("gpu: l40s", f"gpu: l40s, tensor_parallel: 4, speculative: {draft}")
    text = gpu_recipe("hf:Qwen/Qwen2.5-Coder-7B-Instruct").replace(*changed)
    with pytest.raises(UnsupportedQuantization, match=r"speculative.draft_model: 14 attention heads"):
        GpuPlan.of(parse_recipe(text, "r.yaml"))


def test_a_recipe_for_cpus_has_no_gpu_part() -> None:
    with pytest.raises(NotForGpus, match="target openvino"):
        GpuPlan.of(load_recipe("default"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("evaluation: null", "evaluation: {}"), "evaluation: null is needed"),
        (("evaluation: null", "evaluation: null\ndraft: auto"), "tensorrt_llm.speculative"),
    ],
)
def test_what_only_a_cpu_does_is_refused_when_the_recipe_is_read(changed: tuple[str, str], said: str) -> None:
    with pytest.raises(RecipeInvalid, match=said):
        parse_recipe(gpu_recipe("hf:any/thing").replace(*changed), "r.yaml")


def test_its_build_has_no_stage_that_needs_a_gpu_to_measure() -> None:
    assert stage_names(load_recipe("llama-3.1-8b-awq-l40s"), Settings()) == (
        "resolve", "merge", "quantize", "compile", "embedder", "bundle",
    )  # fmt: skip


def test_the_target_is_found_by_its_name() -> None:
    assert target("tensorrt_llm").name == "tensorrt_llm"


def test_the_script_goes_to_stdout_and_is_bash(tmp_path: Path) -> None:
    done = slipstream("build", "qwen2.5-coder-7b-gptq-a10g", "--emit-script", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/usr/bin/env bash\n# production-v0.1-qwen2.5-coder-7b-gptq-p1:")
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    assert not any(tmp_path.iterdir())
    document = json.loads(
        slipstream("build", "qwen2.5-coder-7b-gptq-a10g", "--emit-script", "--json", home=tmp_path).stdout
    )
    assert document["script"].rstrip() == done.stdout.rstrip()


def test_a_cpu_recipe_asked_for_a_script_ends_with_2(tmp_path: Path) -> None:
    done = slipstream("build", "default", "--emit-script", home=tmp_path)
    assert done.returncode == 2
    assert "set target: tensorrt_llm" in done.stderr


@pytest.mark.parametrize("both", [("--plan", "--emit-script"), ("--plan", "--compare", "none,awq")])
def test_two_things_to_do_at_once_are_refused(tmp_path: Path, both: tuple[str, ...]) -> None:
    done = slipstream("build", "default", *both, home=tmp_path)
    assert done.returncode == 2
    assert "give one of them" in done.stderr
    assert not any(tmp_path.iterdir())
