"""Bundles around a TensorRT-LLM engine that has no engine files: what is rendered from them needs none."""

from pathlib import Path
from typing import Any

from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import MANIFEST, Manifest
from tests.engines.tensorrt_llm.conftest import write_engine

MINIMAL: dict[str, Any] = {
    "release_name": "test",
    "recipe": {},
    "lineage": {
        "base_model": "hf:a/b", "base_model_sha256": "b" * 64, "adapter": None, "calibration_sha256": None,
        "prompt_id": "p1", "prompt_sha256": "c" * 64,
    },
    "quantization": {},
    "engine": {"target": "tensorrt_llm", "versions": {}, "fingerprint": {}},
    "embedder": {"model": "hf:c/d", "digest": "d" * 64, "dimension": 384, "max_tokens": 512},
    "serving": {},
    "tokenizer_sha256": "e" * 64,
    "chat_template_sha256": "f" * 64,
    "context_length": 2048,
    "files": [],
}  # fmt: skip


def write_bundle(folder: Path, engine: ServedEngine, **fields: Any) -> Bundle:
    """A bundle in ``folder``, which may hold a tokenizer and an embedder already; ``fields`` replace the manifest's."""
    write_engine(folder / "engine", engine)
    manifest = Manifest.model_validate({**MINIMAL, **fields, "id": "0" * 16})
    manifest = manifest.model_copy(update={"id": manifest.computed_id()})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return Bundle.open(folder)
