"""``sbom.cdx.json``: what a bundle is made of, as a CycloneDX 1.6 machine-learning bill of materials.

The bundle is a model with a model card; base model, adapters, embedder and calibration text are components beside it,
the libraries that shaped a byte of it too. No time, no serial number and no bundle id is in it, so equal inputs give
equal bytes. Read with https://cyclonedx.org/docs/1.6/json/; what was *measured* lies in ``evaluation.json``.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from slipstream.build.licences import licence_of
from slipstream.build.stages import Outputs
from slipstream.ensemble.manifest import EVALUATION, MANIFEST, SIGNATURE, FileEntry, Manifest

SBOM = "sbom.cdx.json"

_MODEL, _BASE, _ADAPTER, _CALIBRATION = "model", "base-model", "adapter", "data/calibration"
_EMBEDDER, _EMBEDDER_BASE, _EMBEDDER_ADAPTER = "embedder", "embedder/base-model", "embedder/adapter"
_WHOLE = "the file of a GGUF model; else sorted names and sha256 of weights, configuration and tokenizer"
_SHAPING = ("merge", "quantize", "compile", "embedder")
"""The stages whose output is in every bundle; what only measures is none of them."""
_SERVING = ("onnxruntime", "tokenizers")
"""Build with them, and load with them again what they made: the embedder and the tokenizers."""
_PURL_TYPES = {"pypi": ("pypi", "=="), "hf": ("huggingface", "@")}

Fields = dict[str, Any]


def sbom(manifest: Manifest, outputs: Outputs) -> bytes:
    """The bill of materials of the bundle that ``manifest`` and the stages' ``outputs`` make.

    The manifest's id and its entry of this file are not looked at: both come after it.
    """
    components = sorted(_components(manifest, outputs), key=lambda one: str(one["bom-ref"]))
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "slipstream"}]},
            "component": _bundle(manifest, outputs),
        },
        "components": components,
        "dependencies": _dependencies([str(one["bom-ref"]) for one in components]),
    }
    return (json.dumps(document, ensure_ascii=False, sort_keys=True, indent=2) + "\n").encode()


def _bundle(manifest: Manifest, outputs: Outputs) -> Fields:
    files = _files(manifest)
    nested = [entry for place, entries in files.items() if place != _EMBEDDER for entry in entries]
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.release_name,
        "version": str(manifest.recipe["version"]),
        "description": "Answers questions about an indexed code base, with citations.",
        "components": _file_components(nested),
        "pedigree": _pedigree(manifest),
        "modelCard": _model_card(manifest, outputs),
        "externalReferences": [
            {"type": "build-meta", "url": MANIFEST, "comment": "every file with its digest, the recipe, the lineage"},
            {"type": "digital-signature", "url": SIGNATURE, "comment": "there once the bundle is signed"},
            {"type": "quality-metrics", "url": EVALUATION, "comment": "what was measured"},
        ],
    }


def _pedigree(manifest: Manifest) -> Fields:
    lineage = manifest.lineage
    ancestors = [_model(lineage.base_model, lineage.base_model_sha256)]
    notes = [f"weights quantized: {manifest.quantization['method']}", f"compiled for {manifest.engine.target}"]
    if lineage.adapter is None:
        return {"ancestors": ancestors, "notes": "; ".join(notes)}
    ancestors.append(_lora(lineage.adapter.name, lineage.adapter.sha256, lineage.adapter.version))
    patch = {"type": "unofficial", "diff": {"url": f"models:/{quote(lineage.adapter.name)}/{lineage.adapter.version}"}}
    return {
        "ancestors": ancestors,
        "patches": [patch],
        "notes": "; ".join(["LoRA adapter folded into the weights", *notes]),
    }


def _model_card(manifest: Manifest, outputs: Outputs) -> Fields:
    config = json.loads((outputs["merge"].folder / "checkpoint" / "config.json").read_text(encoding="utf-8"))
    has_calibration = manifest.lineage.calibration_sha256 is not None
    facts = {
        "context_length": manifest.context_length,
        "engine": manifest.engine.model_dump(mode="json", include={"target", "fingerprint"}),
        "quantization": manifest.quantization,
        "draft": manifest.draft.model_dump(mode="json") if manifest.draft else {"method": "none"},
        "prompt": {"id": manifest.lineage.prompt_id, "sha256": manifest.lineage.prompt_sha256},
    }
    return {
        "modelParameters": {
            "task": "text-generation",
            "architectureFamily": "transformer",
            "modelArchitecture": ", ".join(config["architectures"]),
            "datasets": [{"ref": _CALIBRATION}] if has_calibration else [],
            "inputs": [{"format": "text: chat messages, and numbered contexts from the search"}],
            "outputs": [{"format": "text: an answer with [n] marks that cite the contexts"}],
        },
        "considerations": {
            "useCases": ["questions about source code and documentation that were indexed beforehand"],
            "technicalLimitations": [
                f"at most {manifest.context_length} tokens of prompt and answer together",
                "an answer holds what the cited contexts hold, and can be wrong where the search found the wrong ones",
                f"runs only on a host that its engine was compiled for ({manifest.engine.target})",
            ],
            "performanceTradeoffs": [f"quantization changes answers; by how much was measured lies in {EVALUATION}"],
        },
        "properties": _properties(facts),
    }


def _components(manifest: Manifest, outputs: Outputs) -> Iterator[Fields]:
    lineage = manifest.lineage
    yield {"bom-ref": _BASE, **_model(lineage.base_model, lineage.base_model_sha256)}
    if lineage.adapter is not None:
        properties = _properties({"run_id": lineage.adapter.run_id})
        lora = _lora(lineage.adapter.name, lineage.adapter.sha256, lineage.adapter.version)
        yield {"bom-ref": _ADAPTER, **lora, "properties": properties}
    if lineage.calibration_sha256 is not None:
        yield _calibration(manifest, lineage.calibration_sha256)
    yield from _embedder(manifest, outputs)
    yield from _libraries(manifest, outputs)


def _embedder(manifest: Manifest, outputs: Outputs) -> Iterator[Fields]:
    embedder = manifest.embedder
    source = _model(embedder.model, outputs["embedder"].inputs["embedder"]["model"])
    ancestors = [source]
    if embedder.adapter is not None:
        lora = _lora(embedder.adapter.name, embedder.adapter.sha256)
        ancestors.append(lora)
        yield {"bom-ref": _EMBEDDER_ADAPTER, **lora}
    yield {"bom-ref": _EMBEDDER_BASE, **source}
    facts = {"digest": embedder.digest, "dimension": embedder.dimension, "max_tokens": embedder.max_tokens}
    yield {
        "type": "machine-learning-model",
        "bom-ref": _EMBEDDER,
        "name": f"{source['name']}-onnx",
        "components": _file_components(_files(manifest)[_EMBEDDER]),
        "pedigree": {"ancestors": ancestors, "notes": "exported to ONNX, weights quantized"},
        "modelCard": {
            "modelParameters": {
                "task": "sentence-similarity",
                "architectureFamily": "transformer",
                "inputs": [{"format": f"text, at most {embedder.max_tokens} tokens"}],
                "outputs": [{"format": f"vector of {embedder.dimension} numbers, length 1"}],
            },
            "properties": _properties(facts),
        },
    }


def _calibration(manifest: Manifest, sha256: str) -> Fields:
    options = manifest.recipe["calibration"]
    rest = {name: value for name, value in options.items() if name != "sources"}
    return {
        "type": "data",
        "bom-ref": _CALIBRATION,
        "name": "calibration text",
        "description": "Prompts that activations were observed on; the hash is over their token ids.",
        "hashes": _hashes(sha256),
        "data": [{"type": "dataset", "name": str(source)} for source in options["sources"]],
        "properties": _properties(rest),
    }


def _libraries(manifest: Manifest, outputs: Outputs) -> Iterator[Fields]:
    """Every library that shaped a byte of the bundle; the engine's own and those that serve are needed to run it."""
    stages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for stage in (*_SHAPING, *({"draft"} & _files(manifest).keys() & outputs.keys())):
        for name, version in outputs[stage].inputs.get("libraries", {}).items():
            stages[name, version].add(stage)
    for name, version in manifest.engine.versions.items():
        stages[name, version].add("compile")
    runtime = outputs["compile"].facts["versions"]
    for (name, version), shaped in stages.items():
        yield {
            "type": "library",
            "bom-ref": f"library/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{_project(name)}@{quote(version, safe='')}",
            "scope": "required" if runtime.get(name) == version or name in _SERVING else "excluded",
            "properties": _properties({"shaped": ", ".join(sorted(shaped))}),
        }


def _model(reference: str, sha256: str) -> Fields:
    """A model by its pinned reference, with a package URL where a registry holds it."""
    kind, _, rest = reference.partition(":")
    fields: Fields = {"type": "machine-learning-model", "hashes": _hashes(sha256), **licence_of(reference)}
    fields["properties"] = _properties({"hash_covers": _WHOLE})
    if kind not in _PURL_TYPES:
        return {**fields, "name": PurePosixPath(reference).name}
    registry, separator = _PURL_TYPES[kind]
    name, _, version = rest.partition(separator)
    purl = f"pkg:{registry}/{quote(_project(name) if kind == 'pypi' else name)}"
    if not version:
        return {**fields, "name": name, "purl": purl}
    return {**fields, "name": name, "version": version, "purl": f"{purl}@{quote(version, safe='')}"}


def _lora(name: str, sha256: str, version: str | None = None) -> Fields:
    fields: Fields = {
        "type": "machine-learning-model",
        "name": name,
        "description": "LoRA adapter",
        "hashes": _hashes(sha256),
        **licence_of(name),
    }
    return fields if version is None else {**fields, "version": version}


def _files(manifest: Manifest) -> Mapping[str, list[FileEntry]]:
    """The bundle's files but this one, by the folder they are in."""
    found: dict[str, list[FileEntry]] = defaultdict(list)
    for entry in manifest.files:
        if entry.path != SBOM:
            found[entry.path.split("/")[0]].append(entry)
    return found


def _file_components(entries: list[FileEntry]) -> list[Fields]:
    return [
        {"type": "file", "bom-ref": f"file/{entry.path}", "name": entry.path, "hashes": _hashes(entry.sha256)}
        for entry in sorted(entries, key=lambda entry: entry.path)
    ]


def _dependencies(refs: list[str]) -> list[Fields]:
    """The bundle needs everything but what its embedder was made of."""
    of_embedder = [ref for ref in refs if ref in (_EMBEDDER_BASE, _EMBEDDER_ADAPTER)]
    needs = {_MODEL: [ref for ref in refs if ref not in of_embedder], _EMBEDDER: of_embedder}
    return [{"ref": ref, "dependsOn": needs.get(ref, [])} for ref in sorted([_MODEL, *refs])]


def _hashes(sha256: str) -> list[Fields]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(facts: Mapping[str, Any], prefix: str = "slipstream") -> list[Fields]:
    """Name-value pairs, sorted; what is nested becomes a longer name."""
    pairs: list[Fields] = []
    for name, value in sorted(facts.items()):
        place = f"{prefix}:{name}"
        if isinstance(value, Mapping):
            pairs += _properties(value, place)
        else:
            pairs.append({"name": place, "value": value if isinstance(value, str) else json.dumps(value)})
    return pairs


def _project(name: str) -> str:
    """A PyPI project's normal name (https://packaging.python.org/specifications/name-normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


__all__ = ["SBOM", "sbom"]
