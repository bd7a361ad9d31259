"""A vector store of each kind (the client's in-memory mode stands in for a Qdrant server), and a tree to index."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slipstream.ensemble.bundle import set_active
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import EmbedderEntry, EngineEntry, Lineage, Manifest, ServingOptions
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.server import ServerStore
from slipstream.ensemble.retrieval.store import VectorStore
from tests.ensemble.retrieval.indexing import Recorder, function, write
from tests.tiny_bert import export_tiny_embedder


@pytest.fixture(params=["edge", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    if request.param == "edge":
        yield EdgeStore(tmp_path / "index")
        return
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    yield ServerStore(client, "memory", abandoned_after=timedelta(0))
    client.close()


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def embedder(folder: Path) -> Recorder:
    return Recorder(folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three files, five definitions."""
    root = tmp_path / "shop"
    write(root / "cart.py", function("add_item"), function("remove_item"))
    write(root / "deep" / "price.py", function("round_price"), function("apply_discount"))
    write(root / "main.go", "package main\n\nfunc main() {\n\tprintln(1)\n}\n")
    return root


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one active bundle that holds nothing but an embedder."""
    folder = tmp_path_factory.mktemp("bundles")
    facts = export_tiny_embedder(folder / "one" / "embedder")
    entry = EmbedderEntry(model="tiny", digest=facts.digest, dimension=facts.dimension, max_tokens=facts.max_tokens)
    manifest = Manifest(
        id="one",
        release_name="test-v0-tiny-none-p1",
        recipe={},
        lineage=Lineage(
            base_model="tiny",
            base_model_sha256="",
            adapter=None,
            calibration_sha256=None,
            prompt_id="",
            prompt_sha256="",
        ),
        quantization={},
        engine=EngineEntry(target="openvino", versions={}, fingerprint={}),
        embedder=entry,
        serving=ServingOptions(),
        tokenizer_sha256="",
        chat_template_sha256="",
        context_length=64,
        files=file_entries(folder / "one"),
    )
    (folder / "one" / "bundle.json").write_text(manifest.model_dump_json())
    set_active(folder, "one")
    return folder


@pytest.fixture
def home(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bundles").symlink_to(bundles)
    monkeypatch.setenv("SLIPSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("QDRANT_URL", raising=False)
    return tmp_path / "home"
