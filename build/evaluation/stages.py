"""The stages of a build that measure what it made; each is kept by its inputs as every stage is."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipstream.build.calibration import chunks_digest, serving_prompts
from slipstream.build.evaluation.quality import quality
from slipstream.build.evaluation.speed import OUTPUT_TOKENS, measure, prompts_needed
from slipstream.build.evaluation.texts import HeldOut
from slipstream.build.options import EvaluationOptions
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Outputs, Stage, code_digests, library_versions
from slipstream.engines.host import probe_host
from slipstream.engines.protocols import Progress, Runtime, RuntimeOptions
from slipstream.engines.registry import runtime, target
from slipstream.ensemble.prompt import PROMPT
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer

EVALUATION_STAGES = ("quality", "speed")

_AROUND_TOKENS = 256
"""System words, question and headings, beside the contexts of a prompt."""


def evaluation_stages(recipe: Recipe, chunks: Sequence[Chunk], texts: HeldOut | None) -> list[Stage]:
    """Those of `EVALUATION_STAGES`; none for a recipe without an evaluation."""
    if recipe.evaluation is None or texts is None:
        return []
    return [_quality(recipe, recipe.evaluation, texts), _speed(recipe, chunks)]


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
        tokenizer = ChatTokenizer(outputs["merge"].folder / "tokenizer")
        limit = serving.context_tokens + _AROUND_TOKENS
        prompts = serving_prompts(chunks, tokenizer, prompts_needed(), limit, calibration.seed)
        options = RuntimeOptions(serving.max_concurrency, serving.kv_cache_bytes)

        def load() -> Runtime:
            return runtime(recipe.target, outputs["compile"].folder, options)

        return asdict(measure({"engine": load}, prompts, progress)["engine"])

    host = probe_host()
    inputs = {
        "prompts": {"chunks": chunks_digest(chunks), "prompt": PROMPT.digest, "seed": calibration.seed},
        "serving": serving.model_dump(include={"context_tokens", "max_concurrency", "kv_cache_bytes"}),
        "output_tokens": OUTPUT_TOKENS,
        "host": {"cpu": host.cpu_model, "cores": len(os.sched_getaffinity(0))},
        "libraries": library_versions("openvino-genai"),
        "code": code_digests("build.evaluation.speed", "build.calibration"),
    }
    return Stage("speed", inputs, work, after=("merge", "compile"))


__all__ = ["EVALUATION_STAGES", "evaluation_stages"]
