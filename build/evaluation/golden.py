"""The stages that ask an engine the golden questions, and the model it was quantized from the same ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipstream.build.golden.answers import GoldenAnswers, agreement, answer
from slipstream.build.golden.contexts import read_prompts, retrieve_contexts, write_prompts
from slipstream.build.golden.judge import Judge
from slipstream.build.golden.judged import judge_answers
from slipstream.build.golden.questions import GoldenSet
from slipstream.build.golden.report import evaluate, length_change
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Outputs, Stage, code_digests, library_versions, package_digest
from slipstream.engines.host import probe_host
from slipstream.engines.protocols import Progress, RuntimeOptions
from slipstream.engines.registry import runtime
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer

PROMPTS, ANSWERS = "prompts.json", "answers.json"
_SEARCHING = ("context_tokens", "context_margin", "min_confidence")
_ANSWERING = ("max_concurrency", "kv_cache_bytes", "citations", "batch_invariant")
_INDEX_BYTES = 64 * 1024**2


def contexts_stage(recipe: Recipe, golden: GoldenSet, sources_sha256: str) -> Stage:
    """Every question with the contexts that a search with the bundle's embedder finds for it."""

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        import shutil

        index = out / "index"
        prompts = retrieve_contexts(
            golden, outputs["embedder"].folder, _tokenizer(outputs), recipe.serving, index, progress
        )
        shutil.rmtree(index)
        write_prompts(prompts, out / PROMPTS)
        return {"questions": len(prompts), "declined": sum(bool(prompt.declined) for prompt in prompts)}

    inputs = {
        "golden": golden.model_dump(mode="json"),
        "sources": sources_sha256,
        "serving": recipe.serving.model_dump(mode="json", include=set(_SEARCHING)),
        "libraries": library_versions("qdrant-edge-py", "onnxruntime", "tokenizers"),
        "code": {
            **code_digests("build.golden.contexts", "ensemble.retriever", "ensemble.assembly", "ensemble.prompt"),
            "ensemble.retrieval": package_digest("ensemble.retrieval"),
        },
    }
    return Stage("contexts", inputs, work, after=("merge", "embedder"), needed_bytes=_INDEX_BYTES)


def baseline_stage(recipe: Recipe) -> Stage:
    """What the merged model answers, not quantized."""
    return _answering("baseline", recipe, "reference")


def answers_stage(recipe: Recipe) -> Stage:
    """What the engine answers; an engine that is not quantized is the one that was asked already."""
    return _answering("answers", recipe, "reference" if recipe.quantization.method == "none" else "compile")


def _answering(name: str, recipe: Recipe, engine: str) -> Stage:
    serving = recipe.serving

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        tokenizer = outputs["merge"].folder / "tokenizer"
        options = RuntimeOptions(
            serving.max_concurrency,
            serving.kv_cache_bytes,
            tokenizer=tokenizer / TOKENIZER,
            batch_invariant=serving.batch_invariant,
        )
        prompts = [one for one in _prompts(outputs) if one.question.use == "gate"]
        progress(0.0, "loading the engine")
        loaded = runtime(recipe.target, outputs[engine].folder, options)
        try:
            answers = answer(prompts, loaded, ChatTokenizer(tokenizer), serving, progress)
        finally:
            loaded.close()
        (out / ANSWERS).write_text(answers.model_dump_json(indent=1), encoding="utf-8")
        return {"answers": len(answers.answers), "tokens": answers.generated_tokens, "wall_s": answers.wall_s}

    inputs = {
        "target": recipe.target,
        "serving": serving.model_dump(mode="json", include=set(_ANSWERING)),
        "host": {"isa": probe_host().multiplies_with},
        "libraries": library_versions("openvino-genai", "tokenizers"),
        "code": {
            **code_digests(
                "build.golden.answers", "ensemble.generator", "ensemble.grammar", "ensemble.citations",
                "ensemble.stopping",
            ),
            "engines": package_digest(f"engines.{recipe.target}"),
        },
    }  # fmt: skip
    return Stage(name, inputs, work, after=("merge", "contexts", engine), shelf="answers")


def golden_stage() -> Stage:
    """The metrics over both sets of answers."""

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        prompts = [one for one in _prompts(outputs) if one.question.use == "gate"]
        ours, theirs = _answers(outputs, "answers"), _answers(outputs, "baseline")
        progress(0.1, "measuring the answers")
        report, reference = evaluate(prompts, ours), evaluate(prompts, theirs)
        return {
            "report": report.model_dump(mode="json"),
            "reference": reference.model_dump(mode="json"),
            "agreement": agreement(ours, theirs).model_dump(mode="json"),
            "length_change": length_change(report, reference),
        }

    inputs: Mapping[str, Any] = {
        "libraries": library_versions("deepeval"),
        "code": {"build.golden": package_digest("build.golden")},
    }
    return Stage("golden", inputs, work, after=("contexts", "baseline", "answers"))


def judge_stage(judge: Judge, kept_dir: Path) -> Stage:
    """What a judge says of the engine's answers, by DeepEval's own metrics.

    Args:
        kept_dir: where every score is written down when it is known: a judge that goes away costs none.
    """

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        prompts = [one for one in _prompts(outputs) if one.question.use == "gate"]
        kept_dir.mkdir(parents=True, exist_ok=True)
        kept = kept_dir / f"judge-{outputs['answers'].output_sha256[:32]}.jsonl"
        return judge_answers(prompts, _answers(outputs, "answers"), judge, kept, progress).model_dump(mode="json")

    inputs: Mapping[str, Any] = {
        "judge": {"url": judge.place, "model": judge.model},
        "libraries": library_versions("deepeval"),
        "code": code_digests("build.golden.judge", "build.golden.judged", "build.golden.metrics"),
    }
    return Stage("judge", inputs, work, after=("contexts", "answers"))


def _tokenizer(outputs: Outputs) -> ChatTokenizer:
    return ChatTokenizer(outputs["merge"].folder / "tokenizer")


def _prompts(outputs: Outputs) -> list[Any]:
    return read_prompts(outputs["contexts"].folder / PROMPTS)


def _answers(outputs: Outputs, stage: str) -> GoldenAnswers:
    return GoldenAnswers.model_validate_json((outputs[stage].folder / ANSWERS).read_text(encoding="utf-8"))


__all__ = ["answers_stage", "baseline_stage", "contexts_stage", "golden_stage", "judge_stage"]
