"""The stages that give an engine a speculative draft: teach, compile, measure beside none, keep what pays."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipstream.build.calibration import calibration_sequences, chunks_digest
from slipstream.build.draft.distil import DistilOptions, Lesson, distil
from slipstream.build.draft.measure import STREAMS, Candidate, candidates, choose, measure, prompts_needed, speculation
from slipstream.build.draft.prompts import Asked, answer_all, asked_prompts
from slipstream.build.options import DraftOptions
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Outputs, Stage, code_digests, digest_of, library_versions, package_digest
from slipstream.engines.host import probe_host
from slipstream.engines.protocols import Progress, Runtime, RuntimeOptions
from slipstream.engines.registry import runtime, target
from slipstream.ensemble.prompt import PROMPT
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer

LESSONS = "lessons.json"
_PROMPT_TOKENS = 256
"""System words, question and headings, beside the contexts of a prompt."""


def draft_names(options: DraftOptions) -> tuple[str, ...]:
    """The stages of `draft_stages`, in order."""
    if options.method == "none":
        return ()
    return (*(("lessons", "distil", "draft") if _is_distilled(options) else ()), "speculate")


def draft_stages(recipe: Recipe, chunks: Sequence[Chunk], state_dir: Path) -> list[Stage]:
    """What finds a draft for the engine of ``recipe``; nothing for the method ``none``.

    Args:
        state_dir: where a distillation that is killed keeps what it learned.
    """
    made: list[Stage] = []
    if _is_distilled(recipe.draft):
        made = [_lessons(recipe, chunks), _distil(recipe, state_dir), _draft(recipe, chunks)]
    return [*made, _speculate(recipe, chunks)] if recipe.draft.method != "none" else []


def _is_distilled(options: DraftOptions) -> bool:
    return options.method in ("distilled", "auto")


def _lessons(recipe: Recipe, chunks: Sequence[Chunk]) -> Stage:
    """What the engine itself answers to prompts over the collection."""
    options = recipe.draft

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        asked = _asked(recipe, outputs, chunks, options.prompts, "lessons")
        engine = _load(recipe, outputs, Candidate("none"))
        try:
            answers = answer_all(engine, asked, progress)
        finally:
            engine.close()
        lessons = [[one.prompt_ids, ids] for one, ids in zip(asked, answers, strict=True) if ids]
        (out / LESSONS).write_text(json.dumps(lessons), encoding="utf-8")
        return {"lessons": len(lessons), "tokens": sum(len(ids) for _, ids in lessons)}

    inputs = _prompt_inputs(recipe, chunks) | {
        "prompts": options.prompts,
        "libraries": library_versions("openvino-genai", "tokenizers"),
        "code": code_digests("build.draft.prompts", "build.calibration", "ensemble.grammar"),
    }
    return Stage("lessons", inputs, work, after=("merge", "compile"))


def _distil(recipe: Recipe, state_dir: Path) -> Stage:
    options = recipe.draft
    how = DistilOptions(layers=options.layers, steps=options.steps, seed=options.seed)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        lessons = [Lesson(*pair) for pair in json.loads((outputs["lessons"].folder / LESSONS).read_text("utf-8"))]
        state_dir.mkdir(parents=True, exist_ok=True)
        of = digest_of([asdict(how), outputs["merge"].output_sha256, outputs["lessons"].output_sha256])
        checkpoint = outputs["merge"].folder / "checkpoint"
        return asdict(distil(checkpoint, lessons, out / "checkpoint", how, progress, state_dir / f"{of[:32]}.pt"))

    inputs = {
        "options": asdict(how),
        "libraries": library_versions("torch", "transformers", "safetensors", "tokenizers"),
        "code": code_digests("build.draft.distil", "build.draft.cut", "build.training.train"),
    }
    return Stage("distil", inputs, work, after=("merge", "lessons"))


def _draft(recipe: Recipe, chunks: Sequence[Chunk]) -> Stage:
    """The distilled model as an engine, quantized as the target is."""
    engine, quantization = target(recipe.target), recipe.quantization

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        import shutil

        sequences: list[list[int]] = []
        if quantization.is_calibrated:
            sequences = calibration_sequences(chunks, _tokenizer(outputs), recipe.calibration)
        quantized, compiled = out / "quantized", out / "engine"
        quantized.mkdir()
        compiled.mkdir()
        checkpoint = outputs["distil"].folder / "checkpoint"
        facts = engine.quantize(
            checkpoint, quantization.spec, sequences, quantized, lambda share, doing: progress(0.8 * share, doing)
        )
        engine.compile(quantized, compiled, lambda share, doing: progress(0.8 + 0.2 * share, doing))
        shutil.rmtree(quantized)
        return facts

    inputs = {
        "target": recipe.target,
        "quantization": quantization.effective(),
        "calibration": recipe.calibration.model_dump(mode="json") | {"sources": chunks_digest(chunks)},
        "libraries": engine.versions(),
        "code": {"engine": package_digest(f"engines.{recipe.target}"), **code_digests("build.calibration")},
    }
    return Stage("draft", inputs, work, after=("merge", "distil"))


def _speculate(recipe: Recipe, chunks: Sequence[Chunk]) -> Stage:
    """Every candidate beside none, on this host; what is kept is in the facts."""
    options = recipe.draft
    tried = candidates(options)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        asked = _asked(recipe, outputs, chunks, prompts_needed(), "speculate")

        def loader(candidate: Candidate) -> Callable[[], Runtime]:
            return lambda: _load(recipe, outputs, candidate)

        report = measure({candidate: loader(candidate) for candidate in tried}, asked, progress)
        return report.as_dict() if options.method == "auto" else _demanded(report.as_dict(), report.measured)

    host = probe_host()
    inputs = _prompt_inputs(recipe, chunks) | {
        "method": options.method,
        "candidates": [asdict(candidate) for candidate in tried],
        "serving": recipe.serving.model_dump(include={"max_concurrency", "kv_cache_bytes", "batch_invariant"}),
        "host": {"cpu": host.cpu_model, "cores": len(os.sched_getaffinity(0)), "isa": host.multiplies_with},
        "libraries": library_versions("openvino-genai"),
        "code": {
            "engine": package_digest(f"engines.{recipe.target}"),
            **code_digests("build.draft.measure", "build.draft.prompts", "build.calibration"),
        },
    }
    after = ("merge", "compile", "draft") if _is_distilled(options) else ("merge", "compile")
    return Stage("speculate", inputs, work, after=after)


def _demanded(report: dict[str, Any], measured: Sequence[Any]) -> dict[str, Any]:
    """A recipe that names its method gets its fastest length, and is told what that costs where it does not pay."""
    best = max(measured[1:], key=lambda one: (one.alone.gain, one.loaded.gain))
    _, why = choose([measured[0], best])
    why = why if best.pays else f"{best.candidate.name} is kept, for the recipe names it; {why}"
    return {**report, "kept": asdict(best.candidate), "why": why}


def _prompt_inputs(recipe: Recipe, chunks: Sequence[Chunk]) -> dict[str, Any]:
    return {
        "chunks": chunks_digest(chunks),
        "prompt": PROMPT.digest,
        "context_tokens": recipe.serving.context_tokens,
        "seed": recipe.draft.seed,
    }


def _asked(recipe: Recipe, outputs: Outputs, chunks: Sequence[Chunk], count: int, purpose: str) -> list[Asked]:
    """``count`` prompts of a draw of its own for each ``purpose``: what a draft is taught says little of the others."""
    limit = recipe.serving.context_tokens + _PROMPT_TOKENS
    seed = int(digest_of([recipe.draft.seed, purpose])[:8], 16)
    return asked_prompts(chunks, _tokenizer(outputs), count, limit, seed)


def _load(recipe: Recipe, outputs: Outputs, candidate: Candidate) -> Runtime:
    draft = outputs["draft"].folder / "engine" if "draft" in outputs else None
    options = RuntimeOptions(
        max(STREAMS, recipe.serving.max_concurrency),
        recipe.serving.kv_cache_bytes,
        tokenizer=outputs["merge"].folder / "tokenizer" / TOKENIZER,
        speculation=speculation(candidate, draft),
        batch_invariant=recipe.serving.batch_invariant,
    )
    return runtime(recipe.target, outputs["compile"].folder, options)


def _tokenizer(outputs: Outputs) -> ChatTokenizer:
    return ChatTokenizer(outputs["merge"].folder / "tokenizer")


__all__ = ["draft_names", "draft_stages"]
