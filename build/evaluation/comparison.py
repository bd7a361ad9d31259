"""Several quantizations of one merged model, each built and measured, in one table.

Everything but the method is the recipe's, and what is the same is made once: merged model, export, embedder, contexts
of the golden questions. Speeds are measured when all are built, with the engines taking turns.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

from slipstream import InputError
from slipstream.build.calibration import source_chunks
from slipstream.build.evaluation.record import Evaluation, MeasuredOn
from slipstream.build.evaluation.speed import Measured, Speed
from slipstream.build.evaluation.stages import speeds
from slipstream.build.evaluation.table import Row, markdown, megabytes, number, share, told
from slipstream.build.gates import GateFailed
from slipstream.build.pipeline import Pipeline, Watcher
from slipstream.build.recipe import Recipe
from slipstream.engines.protocols import Progress, QuantizationMethod
from slipstream.settings import Settings


class MethodsUnfit(InputError):
    """What is to be compared cannot be."""


@dataclass(frozen=True)
class Candidate:
    """One quantization. ``bundle`` is its id, None where ``gate`` says which gate stopped it."""

    method: str
    bundle: str | None
    gate: str
    evaluation: Evaluation
    speed: Speed


@dataclass(frozen=True)
class Comparison:
    """All candidates, in the order they were named, and the files below ``reports/`` that say the same."""

    recipe: dict[str, Any]
    host: MeasuredOn
    candidates: tuple[Candidate, ...]
    seconds: float
    saved: tuple[Path, ...] = ()

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "recipe": self.recipe,
            "host": self.host.model_dump(),
            "seconds": round(self.seconds, 1),
            "saved": [str(path) for path in self.saved],
            "candidates": [
                {**asdict(one), "evaluation": one.evaluation.model_dump(mode="json")} for one in self.candidates
            ],
        }


def parse_methods(given: str) -> list[QuantizationMethod]:
    """``none,awq,gptq`` as methods.

    Raises:
        MethodsUnfit: one is unknown or named twice, or there are fewer than two.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    known: tuple[QuantizationMethod, ...] = get_args(QuantizationMethod)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MethodsUnfit(f"{unknown[0]!r} is no quantization method", f"choose among {', '.join(known)}")
    if len(set(names)) < max(2, len(names)):
        raise MethodsUnfit(f"{given!r} does not name two methods or more, each once", "--compare none,awq,gptq")
    return [method for name in names for method in known if method == name]


def variant(recipe: Recipe, method: QuantizationMethod) -> Recipe:
    """``recipe`` with another quantization method."""
    return recipe.model_copy(update={"quantization": recipe.quantization.model_copy(update={"method": method})})


def compare_methods(variants: Sequence[Recipe], settings: Settings, watcher: Watcher) -> Comparison:
    """Build and measure each of ``variants``; bundles are made of those that pass the gates, none is activated.

    Every one is checked against the base model's widths before the first is built.

    Raises:
        MethodsUnfit: the recipe measures nothing.
        InputError, EnvironmentFault: see `Pipeline.build`.
    """
    if variants[0].evaluation is None:
        raise MethodsUnfit(
            "the recipe has no evaluation, so there is nothing to compare",
            "compare with a recipe for OpenVINO that has one",
        )
    started = perf_counter()
    pipelines = [Pipeline(one, settings, watcher) for one in variants]
    for pipeline in pipelines:
        pipeline.require_fit()
    reports = settings.root / "reports"
    reports.mkdir(parents=True, exist_ok=True)  # where it cannot be, that is told before the work and not after it
    candidates = [_built(one, pipeline) for one, pipeline in zip(variants, pipelines, strict=True)]
    watcher.started("compare")
    clocked = perf_counter()
    found = _take_turns(variants, pipelines, settings, partial(watcher.progress, "compare"))
    watcher.finished("compare", "ran", perf_counter() - clocked)
    measured = tuple(replace(one, speed=found[one.method]) for one in candidates)
    recipe = variants[0].model_dump(mode="json", exclude={"quantization": {"method"}})
    comparison = Comparison(recipe, MeasuredOn.here(), measured, perf_counter() - started)
    return _saved(comparison, reports)


def _take_turns(
    variants: Sequence[Recipe], pipelines: Sequence[Pipeline], settings: Settings, progress: Progress
) -> dict[str, Speed]:
    recipe, outputs = variants[0], pipelines[0].outputs
    engines: dict[str, Path] = {
        one.quantization.method: pipeline.outputs["compile"].folder
        for one, pipeline in zip(variants, pipelines, strict=True)
    }
    chunks = source_chunks(recipe.calibration.sources, settings)
    return speeds(recipe, engines, chunks, outputs["merge"].folder / "tokenizer", progress)


def _built(recipe: Recipe, pipeline: Pipeline) -> Candidate:
    try:
        bundle, gate = pipeline.build(activate=False).bundle.manifest.id, ""
    except GateFailed as failed:
        bundle, gate = None, failed.message
    evaluation = pipeline.evaluation
    assert evaluation is not None  # noqa: S101  # its recipe has one, and it went to the gates
    return Candidate(recipe.quantization.method, bundle, gate, evaluation, _speed(evaluation))


def _speed(evaluation: Evaluation) -> Speed:
    """What the build itself measured, alone on the machine."""
    fields = evaluation.speed
    return Speed(**{**fields, "alone": Measured(**fields["alone"]), "loaded": Measured(**fields["loaded"])})


def _saved(comparison: Comparison, folder: Path) -> Comparison:
    stem = f"compare-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    table, document = folder / f"{stem}.md", folder / f"{stem}.json"
    comparison = replace(comparison, saved=(table, document))
    table.write_text("\n".join(comparison_lines(comparison)) + "\n", encoding="utf-8")
    document.write_text(json.dumps(comparison.document(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return comparison


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """For people: a column for each method."""
    candidates = comparison.candidates
    rows = [_row(name, [cell(one) for one in candidates]) for name, cell in _CELLS if _is_known(cell, candidates)]
    yield from markdown(("", *(one.method for one in candidates)), rows)
    yield ""
    grid = comparison.recipe["quantization"]
    yield (
        f"{grid['bits']} bits, groups of {grid['group_size']}, "
        f"{'symmetric' if grid['symmetric'] else 'asymmetric'}, ratio {grid['ratio']:g}; "
        f"on {comparison.host.cores} cores of {comparison.host.cpu}; ± is half the spread of the rounds"
    )
    for one in candidates:
        if one.gate:
            yield f"{one.method} makes no bundle: {one.gate}"
    for path in comparison.saved:
        yield f"saved {path}"


def _row(name: str, cells: Sequence[str]) -> Row:
    return (name, *cells)


def _is_known(cell: Any, candidates: Sequence[Candidate]) -> bool:
    return any(cell(one) != "-" for one in candidates)


def _quality(kind: str, field: str, words: str) -> Any:
    return lambda one: told(words, one.evaluation.quality[kind][field])


def _golden(field: str, words: Any) -> Any:
    def cell(one: Candidate) -> str:
        golden = one.evaluation.golden
        return "-" if golden is None else words(golden["report"][field])

    return cell


def _agreement(one: Candidate) -> str:
    golden = one.evaluation.golden
    return "-" if golden is None else share(golden["agreement"]["identical"])


def _rate(value: float, spread: float) -> str:
    return f"{value:.0f} ± {value * spread / 2:.0f}"


_CELLS: tuple[tuple[str, Any], ...] = (
    ("bundle", lambda one: one.bundle or "-"),
    ("weights, MB", lambda one: megabytes(one.evaluation.weights_bytes)),
    ("perplexity, code", _quality("code", "perplexity", "{:.2f}")),
    ("... rise", _quality("code", "rise", "{:+.1%}")),
    ("perplexity, prose", _quality("prose", "perplexity", "{:.2f}")),
    ("... rise", _quality("prose", "rise", "{:+.1%}")),
    ("KL, code, nats", _quality("code", "kl", "{:.3f}")),
    ("KL, prose, nats", _quality("prose", "kl", "{:.3f}")),
    ("golden set passed", _golden("pass_rate", share)),
    ("greedy answers as merged", _agreement),
    ("citation validity", _golden("citation_validity", share)),
    ("mean answer, tokens", _golden("answer_tokens", number)),
    ("decode alone, tokens/s", lambda one: _rate(one.speed.alone.decode, one.speed.alone.decode_spread)),
    ("output at 8 streams, tokens/s", lambda one: _rate(one.speed.loaded.output, one.speed.loaded.output_spread)),
    ("first token alone, ms", lambda one: f"{one.speed.alone.ttft_s * 1000:.0f}"),
    ("peak memory, MB", lambda one: megabytes(one.speed.peak_memory_bytes)),
    ("quantizing, s", lambda one: f"{one.evaluation.stages['quantize'].seconds:.0f}"),
    ("gates", lambda one: "FAILED" if one.gate else "ok"),
)

__all__ = [
    "Candidate", "Comparison", "MethodsUnfit", "compare_methods", "comparison_lines", "parse_methods", "variant",
]  # fmt: skip
