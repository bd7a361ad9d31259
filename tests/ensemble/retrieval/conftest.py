"""A vector store of each kind (the client's in-memory mode stands in for a Qdrant server), and a tree to index."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.server import ServerStore
from slipstream.ensemble.retrieval.store import VectorStore
from tests.ensemble.retrieval.indexing import Recorder, function, write


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
