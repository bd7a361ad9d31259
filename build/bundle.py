"""The last stage: the outputs of the others, copied into an immutable ``bundles/<id>/`` with its manifest.

Files are copied, not hard-linked: a link would let whoever damages a bundle damage the stage cache with it, and the
bundle could not be made anew from there. The id is the digest of the manifest, so equal inputs give the same bundle.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.build.durable import Shelf
from slipstream.build.embedder_adapter import EmbedderAdapter
from slipstream.build.evaluation.record import Evaluation
from slipstream.build.recipe import Recipe
from slipstream.build.references import ResolvedModel
from slipstream.build.registry import RegisteredAdapter
from slipstream.build.sbom import SBOM, sbom
from slipstream.build.stages import Outputs, Status
from slipstream.engines.protocols import Progress
from slipstream.ensemble.bundle import Bundle, BundleError
from slipstream.ensemble.manifest import (
    EVALUATION,
    MANIFEST,
    SIGNATURE,
    AdapterLineage,
    DraftEntry,
    EmbedderAdapterEntry,
    EmbedderEntry,
    EngineEntry,
    FileEntry,
    Lineage,
    Manifest,
)
from slipstream.ensemble.prompt import PROMPT

ENGINE, DRAFT, TOKENIZER, EMBEDDER = "engine", "draft", "tokenizer", "embedder"


@dataclass(frozen=True)
class Part:
    """A file of a stage's output and the place it gets in the bundle."""

    source: Path
    entry: FileEntry


def parts(outputs: Outputs) -> list[Part]:
    """What a bundle is made of, sorted by place; the tokenizer is written beside the merged checkpoint."""
    # What of a stage's output is taken, and where it goes.
    places = [
        ("compile", "", f"{ENGINE}/"),
        ("embedder", "", f"{EMBEDDER}/"),
        ("merge", f"{TOKENIZER}/", f"{TOKENIZER}/"),
    ]
    if (draft := _draft(outputs)) is not None and draft.method == "draft":
        places.append(("draft", "engine/", f"{DRAFT}/"))
    return sorted(
        (
            Part(
                outputs[stage].folder / entry.path,
                entry.model_copy(update={"path": place + entry.path.removeprefix(taken)}),
            )
            for stage, taken, place in places
            for entry in outputs[stage].files
            if entry.path.startswith(taken)
        ),
        key=lambda part: part.entry.path,
    )


def _draft(outputs: Outputs) -> DraftEntry | None:
    """What the build kept of the drafts it tried."""
    kept = outputs["speculate"].facts["kept"] if "speculate" in outputs else {"method": "none"}
    return None if kept["method"] == "none" else DraftEntry(method=kept["method"], tokens=kept["tokens"])


def manifest_of(
    recipe: Recipe,
    base: ResolvedModel,
    adapter: RegisteredAdapter | None,
    embedder: ResolvedModel,
    outputs: Outputs,
    embedder_adapter: EmbedderAdapter | None = None,
) -> Manifest:
    """The manifest of the bundle that ``outputs`` make; no time and no path of this machine is in it."""
    files = [part.entry for part in parts(outputs)]
    digests = {entry.path: entry.sha256 for entry in files}
    quantized, compiled, embedding = (outputs[stage].facts for stage in ("quantize", "compile", "embedder"))
    manifest = Manifest(
        id="",
        release_name=recipe.release_name(base.slug, PROMPT.id),
        recipe=recipe.model_dump(mode="json"),
        lineage=_lineage(base, adapter, quantized["calibration_sha256"]),
        quantization={**recipe.quantization.effective(), **quantized["quantized"]},
        draft=_draft(outputs),
        engine=EngineEntry(
            target=compiled["target"],
            versions={**outputs["quantize"].inputs["libraries"], **compiled["versions"]},
            fingerprint=compiled["fingerprint"],
        ),
        embedder=_embedder_entry(embedder, embedder_adapter, embedding),
        serving=recipe.serving,
        tokenizer_sha256=digests[f"{TOKENIZER}/tokenizer.json"],
        chat_template_sha256=digests[f"{TOKENIZER}/chat_template.jinja"],
        context_length=outputs["merge"].facts["context_length"],
        files=files,
    )
    bill = FileEntry.of(SBOM, sbom(manifest, outputs))
    manifest = manifest.model_copy(update={"files": sorted([*files, bill], key=lambda entry: entry.path)})
    return manifest.model_copy(update={"id": manifest.computed_id()})


def _lineage(base: ResolvedModel, adapter: RegisteredAdapter | None, calibration_sha256: str | None) -> Lineage:
    return Lineage(
        base_model=base.reference,
        base_model_sha256=base.sha256,
        adapter=adapter and AdapterLineage(**_fields(adapter, AdapterLineage.model_fields)),
        calibration_sha256=calibration_sha256,
        prompt_id=PROMPT.id,
        prompt_sha256=PROMPT.digest,
    )


def _embedder_entry(model: ResolvedModel, adapter: EmbedderAdapter | None, facts: dict[str, Any]) -> EmbedderEntry:
    return EmbedderEntry(
        model=model.reference,
        adapter=adapter and EmbedderAdapterEntry(name=adapter.name, sha256=adapter.sha256),
        **_fields(facts, ("digest", "dimension", "max_tokens")),
    )


def _fields(source: Any, names: Any) -> dict[str, Any]:
    values = source if isinstance(source, dict) else vars(source)
    return {name: values[name] for name in names}


def existing(bundles_dir: Path, manifest: Manifest) -> Bundle | None:
    """The bundle of ``manifest`` if it is there with every byte right."""
    try:
        bundle = Bundle.open(bundles_dir / manifest.id)
    except BundleError:
        return None
    return bundle if bundle.manifest == manifest and not list(bundle.problems()) else None


def assemble(
    manifest: Manifest, outputs: Outputs, bundles_dir: Path, progress: Progress, measured: Evaluation | None = None
) -> tuple[Bundle, Status]:
    """Write the bundle of ``manifest``, in place of a damaged one; one that another build just wrote is taken.

    Args:
        measured: goes beside the manifest; what is measured of a bundle is no part of its id.

    Raises:
        DiskFull: nothing half made is left.
    """
    shelf = Shelf(bundles_dir)
    shelf.sweep()
    copied = parts(outputs)

    def fill(aside: Path) -> None:
        for number, part in enumerate(copied):
            progress(number / len(copied), part.entry.path)
            place = aside / part.entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part.source, place)
        (aside / SBOM).write_bytes(sbom(manifest, outputs))
        (aside / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if measured is not None:
            (aside / EVALUATION).write_text(_evaluation_text(measured), encoding="utf-8")
        progress(0.9, "checking every byte")
        Bundle.open(aside).verify()

    with shelf.locked(manifest.id, lambda: progress(0.0, "waiting for another build of the same bundle")):
        if (found := existing(bundles_dir, manifest)) is not None:
            return found, "cached"
        shelf.put(manifest.id, fill, sum(part.entry.size_bytes for part in copied), "bundle")
    return Bundle.open(bundles_dir / manifest.id), "ran"


def keep_evaluation(bundle: Bundle, measured: Evaluation) -> None:
    """Put ``measured`` beside the manifest of a finished ``bundle``; a signed one is left as it was signed.

    It is written outside of the folder, where a killed build leaves nothing that does not belong to the bundle.
    """
    place, text = bundle.path / EVALUATION, _evaluation_text(measured)
    if (bundle.path / SIGNATURE).exists() or (place.is_file() and place.read_bytes() == text.encode()):
        return
    Shelf(bundle.path.parent).put_file(bundle.path.name, EVALUATION, text)


def _evaluation_text(measured: Evaluation) -> str:
    return measured.model_dump_json(indent=2) + "\n"


__all__ = ["Part", "assemble", "existing", "keep_evaluation", "manifest_of", "parts"]
