"""``slipstream build``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream import InputError
from slipstream.build.evaluation.table import evaluation_lines
from slipstream.build.gates import GateFailed
from slipstream.build.golden.judge import NO_JUDGE
from slipstream.build.printing import show
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.build.evaluation.record import Evaluation
    from slipstream.build.pipeline import BuildReport, Pipeline, PlanReport
    from slipstream.build.recipe import Recipe
    from slipstream.build.torch_profile import BuildProfile


@click.command()
@click.argument("recipe")
@click.option("--plan", "plan_only", is_flag=True, help="Print what would run and why, and run nothing.")
@click.option("--activate/--no-activate", default=True, help="Make the bundle the one that is served by default.")
@click.option(
    "--compare", metavar="METHODS", help="Build with each of these quantizations (none,awq,gptq) and print one table."
)
@click.option("--emit-script", is_flag=True, help="Print the GPU part as bash for NVIDIA's container, and run nothing.")
@click.option(
    "--profile",
    "profiled",
    is_flag=True,
    help="Record the stages that run torch: a trace and the top operators of each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def build(
    recipe: str,
    plan_only: bool,
    activate: bool,
    compare: str | None,
    emit_script: bool,
    profiled: bool,
    as_json: bool,
) -> None:
    """Build an engine bundle from RECIPE: a YAML file, or the name of a shipped recipe (default, base, or one for
    NVIDIA GPUs such as llama-3.1-8b-awq-l40s; a name that there is not lists them all).

    What an earlier build finished is used again as long as its inputs are the same; a build that was killed goes on
    after its last finished stage. What the recipe's gates do not let through is measured and shown, and makes no
    bundle (exit code 1). With --compare every method gets a bundle, none of them is activated, and a gate is a mark in
    the table.

    \b
    Example:
      slipstream build default
      slipstream build my-recipe.yaml --plan
      slipstream build default --compare none,awq,gptq
      slipstream build default --profile
      slipstream build llama-3.1-8b-awq-l40s --emit-script > build.sh
    """
    from slipstream.build.recipe import load_recipe

    if (plan_only, emit_script, compare is not None).count(True) > 1:
        raise InputError("--plan, --emit-script and --compare are three things to do", "give one of them")
    if profiled and (plan_only or emit_script or compare is not None):
        raise InputError("--profile records one build that runs", "give it without --plan, --emit-script and --compare")
    loaded = load_recipe(recipe)
    if emit_script:
        _emit_script(loaded, as_json=as_json)
    elif plan_only:
        _plan(loaded, as_json=as_json)
    elif compare is not None:
        _compare(loaded, compare, as_json=as_json)
    else:
        _make(loaded, _profile(recipe) if profiled else None, activate=activate, as_json=as_json)


def _plan(recipe: "Recipe", *, as_json: bool) -> None:
    from slipstream.build.graph import stage_names
    from slipstream.build.pipeline import Pipeline
    from slipstream.build.progress import watched

    memory = _memory(recipe) if recipe.tensorrt_llm is not None else None
    if memory is not None and not as_json:  # before the models are looked up, which may need a network
        for line in _memory_lines(memory):
            click.echo(line)
    with watched(stage_names(recipe, Settings())[:1]) as watcher:
        plan = Pipeline(recipe, Settings(), watcher).plan()
    show(_plan_document(plan) | ({} if memory is None else {"memory": memory}), _plan_lines(plan), as_json=as_json)


def _make(recipe: "Recipe", profile: "BuildProfile | None", *, activate: bool, as_json: bool) -> None:
    from slipstream.build.graph import stage_names
    from slipstream.build.pipeline import Pipeline
    from slipstream.build.progress import watched

    with watched(stage_names(recipe, Settings())) as watcher, _telling(profile):
        pipeline = Pipeline(recipe, Settings(), watcher, None if profile is None else profile.around)
        report, stopped = _built(pipeline, activate=activate)
    recorded = {} if profile is None else {"profile": profile.document()}
    if report is not None:
        show(_build_document(report) | recorded, _build_lines(report, activated=activate), as_json=as_json)
    if stopped is not None and pipeline.evaluation is not None:
        show(_stopped_document(pipeline.evaluation) | recorded, evaluation_lines(pipeline.evaluation), as_json=as_json)
    if profile is not None and not as_json:
        cached = {stage.stage for stage in report.stages if stage.status == "cached"} if report is not None else set()
        for line in profile.lines({name: pipeline.outputs[name].folder for name in cached & pipeline.outputs.keys()}):
            click.echo(line)
    if stopped is not None:
        raise stopped


def _profile(recipe: str) -> "BuildProfile":
    from slipstream.build.torch_profile import BuildProfile

    return BuildProfile.below(Settings().root / "reports", Path(recipe).stem)


@contextmanager
def _telling(profile: "BuildProfile | None") -> Iterator[None]:
    """Say where the profile is of a build that does not end well; what its stages recorded until then is there."""
    try:
        yield
    except BaseException:
        if profile is not None:
            click.echo(f"profile until then: {profile.folder}", err=True)
        raise


def _emit_script(recipe: "Recipe", *, as_json: bool) -> None:
    from slipstream.build.gpu_plan import GpuPlan

    plan = GpuPlan.of(recipe)
    script = plan.script()
    show({"release_name": plan.release_name, "script": script}, iter(script.splitlines()), as_json=as_json)


def _memory(recipe: "Recipe") -> dict[str, Any]:
    """The memory plan of an engine for GPUs."""
    from slipstream.build.gpu_plan import GpuPlan

    plan = GpuPlan.of(recipe)
    return {
        "gpu": plan.options.gpu.name,
        "gpus": plan.options.tensor_parallel,
        "bytes_per_gpu": dict(plan.memory.rows()),
        "full_sequences": plan.memory.full_sequences,
        "max_seq_len": plan.options.max_seq_len,
    }


def _memory_lines(memory: dict[str, Any]) -> Iterator[str]:
    for name, size in memory["bytes_per_gpu"].items():
        yield f"{size / 2**30:9.2f} GiB  {name}"
    yield f"{memory['full_sequences']} sequences of {memory['max_seq_len']} tokens fit into {memory['gpu']}"


def _built(pipeline: "Pipeline", *, activate: bool) -> "tuple[BuildReport | None, GateFailed | None]":
    """The finished build, or the gate that stopped it: what was measured is shown either way."""
    try:
        return pipeline.build(activate=activate), None
    except GateFailed as failed:
        return None, failed


def _compare(recipe: "Recipe", methods: str, *, as_json: bool) -> None:
    from slipstream.build.evaluation.comparison import compare_methods, comparison_lines, parse_methods, variant
    from slipstream.build.graph import stage_names
    from slipstream.build.progress import watched

    variants = [variant(recipe, method) for method in parse_methods(methods)]
    stages = tuple(dict.fromkeys(name for one in variants for name in stage_names(one, Settings())))
    with watched((*stages, "compare")) as watcher:
        comparison = compare_methods(variants, Settings(), watcher)
    show(comparison.document(), comparison_lines(comparison), as_json=as_json)


def _plan_document(plan: "PlanReport") -> dict[str, Any]:
    stages = [{"stage": stage, "cached": not reasons, "reasons": reasons} for stage, reasons in plan.stages]
    return {"release_name": plan.release_name, "bundle": plan.bundle_id, "stages": stages}


def _plan_lines(plan: "PlanReport") -> Iterator[str]:
    yield f"{plan.release_name}  {plan.bundle_id or ''}".rstrip()
    yield f"{'resolve':>9}  always runs"
    for stage, reasons in plan.stages:
        yield f"{stage:>9}  {'would run' if reasons else 'cached'}"
        yield from (f"{'':>11}{reason}" for reason in reasons)


def _build_document(report: "BuildReport") -> dict[str, Any]:
    return {
        "bundle": report.bundle.manifest.id,
        "path": str(report.bundle.path),
        "release_name": report.bundle.manifest.release_name,
        "unchanged": report.unchanged,
        "seconds": round(report.seconds, 3),
        "stages": [asdict(stage) for stage in report.stages],
        "evaluation": report.evaluation and report.evaluation.model_dump(mode="json"),
    }


def _stopped_document(evaluation: "Evaluation") -> dict[str, Any]:
    return {"bundle": None, "evaluation": evaluation.model_dump(mode="json")}


def _build_lines(report: "BuildReport", *, activated: bool) -> Iterator[str]:
    name = f"{report.bundle.manifest.release_name} ({report.bundle.manifest.id})"
    made = [stage.stage for stage in report.stages if stage.status == "ran"]
    if report.unchanged:
        yield f"nothing changed: {name} is up to date, {report.seconds:.1f} s"
    else:
        yield f"built {name} in {report.seconds:.1f} s; made: {', '.join(made)}"
    yield f"  {report.bundle.path}{' (active)' if activated else ''}"
    if report.evaluation is not None:
        yield ""
        yield from evaluation_lines(report.evaluation)
        if report.evaluation.golden is not None and report.evaluation.judge is None:
            yield NO_JUDGE


__all__ = ["build"]
