"""Homes to examine: a bundle of a few bytes that is all right, on a machine that is all right."""

from pathlib import Path
from typing import Any

from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine
from slipstream.ensemble.bundle import Bundle, set_active
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import EmbedderEntry, EngineEntry, Lineage, Manifest, ServingOptions
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.settings import Settings
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, point, publish

LINEAGE = Lineage(
    base_model="tiny",
    base_model_sha256="",
    adapter=None,
    calibration_sha256=None,
    prompt_id="",
    prompt_sha256="",
)


def settings_of(home: Path, **values: Any) -> Settings:
    """Settings with free ports for everything."""
    ports = {"port": 0, "triton_http_port": 0, "triton_grpc_port": 0, "triton_metrics_port": 0}
    return Settings(home=home, **(ports | values))


def write_bundle(
    home: Path, *, fingerprint: dict[str, Any] | None = None, gpus: dict[str, Any] | None = None
) -> Bundle:
    """An active bundle whose embedder is `EMBEDDER`.

    Args:
        gpus: the TensorRT-LLM options that its engine was built with; without any, it runs on the CPU.
    """
    folder = home / "bundles" / "new"
    (folder / "engine").mkdir(parents=True)
    (folder / "engine" / "weights.bin").write_bytes(b"weights")
    if gpus is not None:
        options = TensorRtLlmOptions(**gpus)
        ServedEngine(options=options, vocabulary_size=320, eos_token_ids=(2,)).write(folder / "engine")
    engine = EngineEntry(
        target="openvino" if gpus is None else "tensorrt_llm", versions={}, fingerprint=fingerprint or {}
    )
    draft = Manifest(
        id="",
        release_name="test-v0-tiny-none-p1",
        recipe={},
        lineage=LINEAGE,
        quantization={},
        engine=engine,
        embedder=EmbedderEntry(model="tiny", digest=EMBEDDER, dimension=DIMENSION, max_tokens=64),
        serving=ServingOptions(),
        tokenizer_sha256="",
        chat_template_sha256="",
        context_length=64,
        files=file_entries(folder),
    )
    manifest = draft.model_copy(update={"id": draft.computed_id()})
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    path = folder.rename(home / "bundles" / manifest.id)
    set_active(home / "bundles", manifest.id)
    return Bundle.open(path)


def write_index(home: Path) -> Path:
    """The collection `code`, of the bundle's embedder; returns the folder of its shard."""
    store = EdgeStore(home / "index")
    publish(store, [point("a.py"), point("b.py")])
    return home / "index" / "code" / store.current("code").version / "shard"
