"""The recipes for GPU fleets: each is loaded, planned, held against the contract and written out as a script."""

import subprocess

import pytest

from slipstream.build.recipe import Recipe, load_recipe, shipped_recipes
from slipstream.engines.tensorrt_llm.compiling.script import build_steps, emit_script
from slipstream.engines.tensorrt_llm.compiling.serving import served_engine
from slipstream.engines.tensorrt_llm.contract import check_command, check_llm_args
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import require_fit
from slipstream.engines.tensorrt_llm.planning.memory import plan_memory
from slipstream.engines.tensorrt_llm.planning.quantization import check_quantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, known_shape
from slipstream.engines.tensorrt_llm.target import TensorRtLlmTarget

FLEET = [name for name in shipped_recipes() if load_recipe(name).target == "tensorrt_llm"]


def parts(name: str) -> tuple[Recipe, TensorRtLlmOptions, ModelShape, ModelShape | None]:
    recipe = load_recipe(name)
    assert recipe.tensorrt_llm is not None
    shape = known_shape(recipe.base_model)
    assert shape is not None
    reference = recipe.tensorrt_llm.speculative.draft_model
    draft = known_shape(reference) if reference else None
    assert (draft is None) == (reference is None)
    return recipe, recipe.tensorrt_llm, shape, draft


def test_every_fleet_that_was_asked_for_has_a_recipe() -> None:
    assert [
        "deepseek-coder-v2-lite-h100",
        *(f"llama-3.1-8b-{method}-{gpu}" for method in ("awq", "fp8") for gpu in ("h100", "h200", "l40s")),
        "qwen2.5-coder-7b-gptq-a10g",
    ] == FLEET


@pytest.mark.parametrize("name", FLEET)
def test_it_can_be_quantized_and_fits_its_card(name: str) -> None:
    recipe, options, shape, draft = parts(name)
    assert options.gpu.name in name
    check_quantization(recipe.quantization.spec, options, shape)
    TensorRtLlmTarget(options).check_quantization(recipe.quantization.spec, [shape.hidden_size])
    plan = require_fit(options, recipe.quantization.spec, shape, draft)
    assert plan.full_sequences >= options.kv_cache.full_sequences


@pytest.mark.parametrize("name", FLEET)
def test_its_promise_is_no_smaller_than_half_of_what_fits(name: str) -> None:
    """A recipe that promised far less than its card holds would not notice when a change takes half of it."""
    recipe, options, shape, draft = parts(name)
    plan = plan_memory(options, recipe.quantization.spec, shape, draft)
    assert min(plan.full_sequences, options.max_batch_size) <= 2 * options.kv_cache.full_sequences


@pytest.mark.parametrize("name", FLEET)
def test_what_serving_asks_fits_the_engine(name: str) -> None:
    recipe, options, shape, _ = parts(name)
    serving = recipe.serving
    assert serving.max_concurrency <= options.max_batch_size
    assert serving.context_tokens < options.max_input_len
    assert options.max_input_len + serving.max_output_tokens <= options.max_seq_len <= shape.max_position_embeddings


@pytest.mark.parametrize("name", FLEET)
def test_every_command_and_argument_of_it_is_what_the_release_takes(name: str) -> None:
    recipe, options, shape, draft = parts(name)
    steps = build_steps(options, recipe.quantization.spec, shape, draft)
    nvidia = [step.command for step in steps if step.command[0] == "trtllm-build" or "/app/examples" in step.command[1]]
    for command in nvidia:
        check_command(command)
    engines = {"engine": 1 if draft is None else 2, "llmapi": 0}[options.mode]
    assert [command[0] for command in nvidia].count("trtllm-build") == engines
    if options.mode == "llmapi":
        plan = plan_memory(options, recipe.quantization.spec, shape, draft)
        check_llm_args(served_engine(options, shape, plan, (0,)).llm_arguments)


@pytest.mark.parametrize("name", FLEET)
def test_its_script_is_clean_bash(name: str) -> None:
    recipe, options, shape, draft = parts(name)
    script = emit_script(options, recipe.quantization.spec, shape, draft, title=recipe.release_name("x", "p1"))
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_draft_speaks_of_fewer_rows_and_the_same_family() -> None:
    _, _, shape, draft = parts("qwen2.5-coder-7b-gptq-a10g")
    assert draft is not None
    assert (shape.model_type, draft.model_type) == ("qwen2", "qwen2")
    assert draft.vocab_size < shape.vocab_size
