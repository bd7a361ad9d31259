"""The stages of a recipe: what each one reads, what shapes its output, and the work itself."""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipstream.build.calibration import (
    calibration_sequences,
    chunks_digest,
    comparison_texts,
    held_back,
    source_chunks,
)
from slipstream.build.checkpoint import write_tokenizer
from slipstream.build.draft.stages import draft_names, draft_stages
from slipstream.build.embedder import export_embedder
from slipstream.build.embedder_adapter import EmbedderAdapter, resolve_embedder_adapter
from slipstream.build.evaluation.stages import Material, evaluation_names, evaluation_stages, read_material
from slipstream.build.merge import merge_adapter
from slipstream.build.options import Quantization
from slipstream.build.recipe import Recipe
from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.build.registry import RegisteredAdapter, Registry
from slipstream.build.stages import Outputs, Stage, code_digests, digest_of, library_versions, package_digest
from slipstream.engines.protocols import Progress, Target
from slipstream.engines.registry import target
from slipstream.ensemble.prompt import PROMPT
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings

_OPENVINO_CODE = (
    "engines.openvino.target", "engines.openvino.quantization", "engines.openvino.fusion",
    "engines.openvino.gptq.decoder", "engines.openvino.gptq.rounding", "engines.openvino.gptq.packing",
)  # fmt: skip
_CALIBRATION_CODE = ("build.calibration", "build.training.wording", "ensemble.prompt")
_GGUF_GROWTH, _SAFETENSORS_GROWTH = 8, 2
"""How many times a model's bytes its fp32 checkpoint has, at most: GGUF has 4 bits and more, safetensors 16."""


@dataclass(frozen=True)
class Resolved:
    """What the references of a recipe mean now.

    ``chunks`` are those of its calibration sources; ``material`` is what it is measured on, None where nothing is. In
    ``state_dir`` long work that is killed leaves what it has. ``draft_model`` proposes tokens to a TensorRT-LLM engine.
    """

    base: ResolvedModel
    adapter: RegisteredAdapter | None
    embedder: ResolvedModel
    embedder_adapter: EmbedderAdapter | None
    chunks: list[Chunk]
    material: Material | None
    state_dir: Path
    draft_model: ResolvedModel | None = None


def resolve(recipe: Recipe, settings: Settings, progress: Progress) -> Resolved:
    """Look every reference of ``recipe`` up, fetching what is not here yet.

    Raises:
        InputError, EnvironmentFault: see `resolve_model`, `Registry.resolve`, `resolve_embedder_adapter` and
            `source_chunks`.
    """

    def part(first: float, last: float) -> Progress:
        return lambda share, doing: progress(first + share * (last - first), doing)

    base = resolve_model(recipe.base_model, settings.cache_dir, part(0.0, 0.5))
    adapter = None
    if recipe.adapter is not None:
        progress(0.5, recipe.adapter)
        adapter = Registry(settings.registry_uri).resolve(recipe.adapter, settings.cache_dir)
    embedder = resolve_model(recipe.embedder.model, settings.cache_dir, part(0.6, 0.9))
    wanted = recipe.embedder.adapter
    embedder_adapter = None if wanted is None else resolve_embedder_adapter(wanted, embedder)
    progress(0.9, "reading the calibration sources")
    chunks = source_chunks(recipe.calibration.sources, settings)
    progress(0.95, "reading what to measure on")
    material, state_dir = read_material(recipe, chunks, settings), settings.cache_dir / "unfinished"
    draft = recipe.tensorrt_llm.speculative.draft_model if recipe.tensorrt_llm else None
    draft_model = resolve_model(draft, settings.cache_dir) if draft else None
    return Resolved(base, adapter, embedder, embedder_adapter, chunks, material, state_dir, draft_model)


def engine_of(recipe: Recipe, resolved: Resolved) -> Target:
    """What compiles for the recipe's engine family."""
    return target(recipe.target, recipe.tensorrt_llm, resolved.draft_model.path if resolved.draft_model else None)


def stages_of(recipe: Recipe, resolved: Resolved) -> list[Stage]:
    """The cached stages, each after those that it reads."""
    made = [
        _merge(recipe, resolved),
        *([_reference(recipe, resolved)] if _has_reference(recipe) else []),
        _quantize(recipe, resolved),
        _compile(recipe, resolved),
        _embedder(recipe, resolved),
    ]
    return [
        *made,
        *draft_stages(recipe, resolved.chunks, resolved.state_dir),
        *evaluation_stages(recipe, resolved.chunks, resolved.material),
    ]


def stage_names(recipe: Recipe, settings: Settings) -> tuple[str, ...]:
    """What a build of ``recipe`` goes through, in order, with *resolve*, *bundle* and *publish*."""
    made = ("merge", *(("reference",) if _has_reference(recipe) else ()), "quantize", "compile", "embedder")
    published = () if recipe.adapter is None else ("publish",)
    return ("resolve", *made, *draft_names(recipe.draft), *evaluation_names(recipe, settings), "bundle", *published)


def _merge(recipe: Recipe, resolved: Resolved) -> Stage:
    base, adapter, tolerance = resolved.base, resolved.adapter, recipe.merge.tolerance

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        path = adapter.path if adapter else None
        report = merge_adapter(base, path, out / "checkpoint", tolerance, progress)
        write_tokenizer(out / "checkpoint", out / "tokenizer")
        return {**asdict(report), "context_length": ChatTokenizer(out / "tokenizer").context_length}

    inputs = {
        "base_model": base.sha256,
        "adapter": adapter.sha256 if adapter else None,
        # Without an adapter nothing is folded, and there is nothing to tolerate.
        "merge": recipe.merge.model_dump() if adapter else None,
        "libraries": library_versions("torch", "transformers", "peft", "safetensors", "tokenizers", "gguf"),
        "code": code_digests("build.merge", "build.adapter", "build.adapter_fit", "build.checkpoint"),
    }
    return Stage("merge", inputs, work, needed_bytes=_checkpoint_bytes(base))


def _has_reference(recipe: Recipe) -> bool:
    """TensorRT-LLM quantizes the merged checkpoint itself, and can be measured on its GPUs only."""
    return recipe.target == "openvino"


def _reference(recipe: Recipe, resolved: Resolved) -> Stage:
    """The merged model as its engine family has it, not quantized: where quantizing starts, and what it is held to."""
    return _quantizing("reference", recipe, resolved, Quantization(method="none"), after=("merge",))


def _quantize(recipe: Recipe, resolved: Resolved) -> Stage:
    starts_anew = recipe.quantization.method == "none" or not _has_reference(recipe)
    after = ("merge",) if starts_anew else ("merge", "reference")
    return _quantizing("quantize", recipe, resolved, recipe.quantization, after)


def _quantizing(
    name: str, recipe: Recipe, resolved: Resolved, quantization: Quantization, after: tuple[str, ...]
) -> Stage:
    engine = engine_of(recipe, resolved)
    calibrated = quantization.is_calibrated
    material = resolved.material
    golden = material.golden.asked("calibration") if material is not None and material.golden is not None else ()
    chunks = held_back(resolved.chunks, material.answers) if calibrated and material is not None else resolved.chunks

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        merged = outputs["merge"].folder
        sequences: list[list[int]] = []
        if calibrated:
            progress(0.0, "calibration text")
            tokenizer = ChatTokenizer(merged / "tokenizer")
            sequences = calibration_sequences(chunks, tokenizer, recipe.calibration, golden)
        exported = outputs["reference"].folder if "reference" in after else None
        facts = engine.quantize(merged / "checkpoint", quantization.spec, sequences, out, progress, exported)
        return {"quantized": facts, "calibration_sha256": digest_of(sequences) if calibrated else None}

    sources = {
        "sources": chunks_digest(chunks),
        "golden": [question.model_dump(mode="json") for question in golden],
        "prompt": PROMPT.digest,
    }
    inputs = {
        "target": recipe.target,
        "quantization": quantization.effective(),
        "calibration": recipe.calibration.model_dump(mode="json") | sources if calibrated else None,
        "libraries": engine.versions() | library_versions("tokenizers"),
        "code": _target_code(recipe) | code_digests(*(_CALIBRATION_CODE if calibrated else ())),
        **_gpu_inputs(recipe, resolved),
    }
    # The full-precision export lies beside the reference until that is written.
    needed_bytes = _checkpoint_bytes(resolved.base) * 3 // 2
    return Stage(name, inputs, work, after=after, needed_bytes=needed_bytes, shelf="quantize")


def _compile(recipe: Recipe, resolved: Resolved) -> Stage:
    engine = engine_of(recipe, resolved)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        compiled = engine.compile(outputs["quantize"].folder, out, progress)
        return {
            "target": compiled.target,
            "fingerprint": dict(compiled.fingerprint),
            "versions": dict(compiled.versions),
        }

    inputs = {
        "target": recipe.target,
        "host": {"os": platform.system().lower(), "arch": platform.machine().lower()},
        "libraries": engine.versions(),
        "code": _target_code(recipe),
    }
    return Stage("compile", inputs, work, after=("quantize",), needed_bytes=_engine_bytes(recipe, resolved))


def _embedder(recipe: Recipe, resolved: Resolved) -> Stage:
    options, adapter = recipe.embedder, resolved.embedder_adapter
    texts = comparison_texts(resolved.chunks, options.chunks, recipe.calibration.seed)

    def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        folder = adapter.path if adapter else None
        facts = export_embedder(resolved.embedder, texts, out, progress, options.minimum_cosine, adapter=folder)
        return asdict(facts)

    inputs = {
        "embedder": {"model": resolved.embedder.sha256, "minimum_cosine": options.minimum_cosine},
        "adapter": adapter.sha256 if adapter else None,
        "texts": digest_of(texts),
        "libraries": library_versions(
            "torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "tokenizers"
        ),
        "code": code_digests("build.embedder", "build.embedder_adapter", "build.sentence_encoder", "ensemble.embedder"),
    }
    return Stage("embedder", inputs, work, needed_bytes=_size_bytes(resolved.embedder.path) * 2)


def _target_code(recipe: Recipe) -> dict[str, str]:
    if recipe.target == "openvino":
        return code_digests(*_OPENVINO_CODE)
    return {f"engines.{recipe.target}": package_digest(f"engines.{recipe.target}")}


def _gpu_inputs(recipe: Recipe, resolved: Resolved) -> dict[str, Any]:
    """What only an engine for GPUs is made of."""
    if recipe.tensorrt_llm is None:
        return {}
    draft = resolved.draft_model.sha256 if resolved.draft_model else None
    return {"tensorrt_llm": recipe.tensorrt_llm.model_dump(mode="json"), "draft_model": draft}


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _checkpoint_bytes(base: ResolvedModel) -> int:
    return _size_bytes(base.path) * (_GGUF_GROWTH if base.weights == "gguf" else _SAFETENSORS_GROWTH)


def _engine_bytes(recipe: Recipe, resolved: Resolved) -> int:
    bits = 16 if recipe.quantization.method == "none" else 8  # four bits, their scales, an 8-bit embedding
    return _checkpoint_bytes(resolved.base) * bits // 32


__all__ = ["Resolved", "engine_of", "resolve", "stage_names", "stages_of"]
