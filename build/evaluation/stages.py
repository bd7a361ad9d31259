"""The stages of a build that measure what it made; each is kept by its inputs as every stage is."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipstream.build.calibration import chunks_digest, serving_prompts
from slipstream.build.evaluation.golden import (
    answers_stage,
    baseline_stage,
    contexts_stage,
    golden_stage,
    judge_stage,
)
from slipstream.build.evaluation.quality import quality
from slipstream.build.evaluation.speed import OUTPUT_TOKENS, Speed, measure, prompts_needed
from slipstream.build.evaluation.texts import HeldOut, held_out
from slipstream.build.golden.judge import Judge, judge_of
from slipstream.build.golden.questions import GoldenSet, answering, check_spans, chunks_by_path, load_golden
from slipstream.build.options import EvaluationOptions
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Outputs, Stage, code_digests, library_versions, package_digest
from slipstream.engines.host import probe_host
from slipstream.engines.protocols import Progress, Runtime, RuntimeOptions
from slipstream.engines.registry import runtime, target
from slipstream.ensemble.prompt import PROMPT
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings

_AROUND_TOKENS = 256
_SERVED = ("context_tokens", "max_concurrency", "kv_cache_bytes", "batch_invariant")
"""System words, question and headings, beside the contexts of a prompt."""


@dataclass(frozen=True)
class Material:
    """What an engine is measured on: held-out text, and golden questions over sources with that digest; and by whom.

    In ``kept_dir`` a judge that goes away leaves what it said. ``answers`` are the texts of the chunks that answer at
    the gate: nothing is calibrated on them.
    """

    texts: HeldOut
    golden: GoldenSet | None
    golden_sources_sha256: str
    judge: Judge | None
    kept_dir: Path
    answers: frozenset[str] = frozenset()


def read_material(recipe: Recipe, calibrated: Sequence[Chunk], settings: Settings) -> Material | None:
    """What ``recipe`` names to be measured on; None if it has no evaluation.

    Raises:
        NotHeldOut: a source of text is calibrated on as well.
        GoldenNotFound, GoldenInvalid, GoldenOutdated, SourceNotFound: the golden set is none, or about other sources.
        JudgeInvalid: the settings name half a judge.
    """
    options = recipe.evaluation
    if options is None:
        return None
    judge, kept_dir = judge_of(settings), settings.cache_dir / "unfinished"
    texts = held_out(options, recipe.calibration.sources, (chunk.text for chunk in calibrated))
    if options.golden is None:
        return Material(texts, None, "", judge, kept_dir)
    golden = load_golden(options.golden)
    check_spans(golden)
    same = list(golden.sources) == recipe.calibration.sources
    chunks = calibrated if same else [chunk for file in chunks_by_path(golden.sources).values() for chunk in file]
    return Material(texts, golden, chunks_digest(chunks), judge, kept_dir, answering(golden, chunks))


def evaluation_names(recipe: Recipe, settings: Settings) -> tuple[str, ...]:
    """The stages of `evaluation_stages`, in order."""
    if recipe.evaluation is None:
        return ()
    if recipe.evaluation.golden is None:
        return ("quality", "speed")
    judged = ("judge",) if settings.judge_url is not None else ()
    return ("quality", "contexts", "baseline", "answers", "golden", *judged, "speed")


def evaluation_stages(recipe: Recipe, chunks: Sequence[Chunk], material: Material | None) -> list[Stage]:
    """What measures the engine of ``recipe``; nothing without material."""
    if recipe.evaluation is None or material is None:
        return []
    golden: list[Stage] = []
    if material.golden is not None:
        contexts = contexts_stage(recipe, material.golden, material.golden_sources_sha256)
        golden = [contexts, baseline_stage(recipe), answers_stage(recipe), golden_stage()]
        if material.judge is not None:
            golden.append(judge_stage(material.judge, material.kept_dir))
    return [_quality(recipe, recipe.evaluation, material.texts), *golden, _speed(recipe, chunks)]


def _quality(recipe: Recipe, options: EvaluationOptions, texts: HeldOut) -> Stage:
    """Perplexity and divergence on held-out text."""
    engine = target(recipe.target)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        tokenizer = ChatTokenizer(outputs["merge"].folder / "tokenizer")
        places = outputs["quantize"].folder, outputs["reference"].folder
        return quality(engine, *places, texts, tokenizer, options, progress)

    inputs = {
        "texts": texts.digest,
        "tokens": options.tokens,
        "window": options.window,
        "host": {"isa": probe_host().multiplies_with},
        "libraries": engine.versions(),
        "code": code_digests(
            "build.evaluation.quality", "build.evaluation.likelihood", "build.evaluation.texts",
            "engines.openvino.scorer",
        ),
    }  # fmt: skip
    return Stage("quality", inputs, work, after=("merge", "reference", "quantize"))


def _speed(recipe: Recipe, chunks: Sequence[Chunk]) -> Stage:
    """Tokens per second on this host, alone and at several streams."""
    serving, calibration = recipe.serving, recipe.calibration

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        engines: dict[str, Path] = {recipe.target: outputs["compile"].folder}
        tokenizer = outputs["merge"].folder / "tokenizer"
        return asdict(speeds(recipe, engines, chunks, tokenizer, progress)[recipe.target])

    host = probe_host()
    inputs = {
        "prompts": {"chunks": chunks_digest(chunks), "prompt": PROMPT.digest, "seed": calibration.seed},
        "serving": serving.model_dump(include=set(_SERVED)),
        "output_tokens": OUTPUT_TOKENS,
        "host": {"cpu": host.cpu_model, "cores": len(os.sched_getaffinity(0)), "isa": host.multiplies_with},
        "libraries": library_versions("openvino-genai"),
        "code": {
            **code_digests("build.evaluation.speed", "build.calibration"),
            "engines": package_digest(f"engines.{recipe.target}"),
        },
    }
    return Stage("speed", inputs, work, after=("merge", "compile"))


def speeds(
    recipe: Recipe, engines: Mapping[str, Path], chunks: Sequence[Chunk], tokenizer: Path, progress: Progress
) -> dict[str, Speed]:
    """How fast each of ``engines`` (compiled folders, by name) serves prompts made of ``chunks``, taking turns."""
    serving = recipe.serving
    limit = serving.context_tokens + _AROUND_TOKENS
    prompts = serving_prompts(chunks, ChatTokenizer(tokenizer), prompts_needed(), limit, recipe.calibration.seed)
    options = RuntimeOptions(serving.max_concurrency, serving.kv_cache_bytes, batch_invariant=serving.batch_invariant)

    def loader(folder: Path) -> Callable[[], Runtime]:
        return lambda: runtime(recipe.target, folder, options)

    return measure({name: loader(folder) for name, folder in engines.items()}, prompts, progress)


__all__ = ["Material", "evaluation_names", "evaluation_stages", "read_material", "speeds"]
