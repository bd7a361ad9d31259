"""The graph of vectors: what a search loses by it, and that both stores build and ask the same one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge
from numpy.typing import NDArray

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge import shard as shards
from slipstream.ensemble.retrieval.hits import DENSE
from slipstream.ensemble.retrieval.store import Chunk, Point, SparseVector
from slipstream.ensemble.retrieval.stores import open_server
from slipstream.ensemble.retrieval.vector_index import DEFAULT, Quantization, VectorIndex
from tests.ensemble.retrieval.corpus import EMBEDDER
from tests.ensemble.retrieval.fake_qdrant import FakeQdrant, fake_qdrant

DIMENSION, CHUNKS, LIMIT = 64, 6000, 10
NO_TERMS, ANYWHERE = SparseVector([], []), SearchFilter()


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    """[CHUNKS, DIMENSION], in clusters as chunks of code lie."""
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(60, DIMENSION))
    return unit(centres[np.arange(CHUNKS) % 60] + 0.7 * generator.normal(size=(CHUNKS, DIMENSION)))


@pytest.fixture(scope="module")
def questions() -> NDArray[np.float32]:
    """[100, DIMENSION], far from every cluster: a narrow search ends early there."""
    return unit(np.random.default_rng(8).normal(size=(100, DIMENSION)))


def points(vectors: NDArray[np.float32]) -> list[Point]:
    names = [f"file_{number}.py" for number in range(len(vectors))]
    digests = [sha256(name.encode()).hexdigest() for name in names]
    chunks = [Chunk(name, "python", "f", 1, 1, name, "r", digest) for name, digest in zip(names, digests, strict=True)]
    return [Point(chunk, vector, NO_TERMS) for chunk, vector in zip(chunks, vectors, strict=True)]


def found(
    folder: Path, index: VectorIndex, made: Sequence[Point], questions: NDArray[np.float32], patch: pytest.MonkeyPatch
) -> tuple[list[list[str]], bool]:
    """The paths of the dense list of every question, and whether a graph was built."""
    patch.setattr(shards, "DEFAULT", index)
    store = EdgeStore(folder)
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert(made)
        version = writer.publish().version
    shard = edge.EdgeShard.load(str(folder / "code" / version / "shard"))
    requests = [
        edge.QueryRequest(
            limit=LIMIT,
            query=edge.Query.Nearest(question.tolist(), using=DENSE),
            with_payload=True,
            params=shards.search_params(index),
        )
        for question in questions
    ]
    lists = [[str(point.payload["path"]) for point in shard.query(request)] for request in requests]
    shard.close()
    return lists, any(folder.rglob("links*"))


def exact(vectors: NDArray[np.float32], questions: NDArray[np.float32]) -> list[list[str]]:
    nearest = np.argsort(-(questions @ vectors.T), axis=1)[:, :LIMIT]
    return [[f"file_{number}.py" for number in row] for row in nearest]


def recall(one: list[list[str]], other: list[list[str]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / LIMIT for a, b in zip(one, other, strict=True)]))


def test_a_graph_finds_what_a_scan_finds_in_its_order(
    tmp_path: Path, vectors: NDArray[np.float32], questions: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = replace(DEFAULT, scanned_up_to_kb=16)
    hits, is_graph = found(tmp_path, index, points(vectors), questions, monkeypatch)
    assert is_graph
    expected = exact(vectors, questions)
    assert recall(hits, expected) >= 0.97
    assert sum(a == b for a, b in zip(hits, expected, strict=True)) >= 90  # by the vectors, not by their int8 copies


def test_a_small_collection_gets_no_graph_and_loses_nothing(
    tmp_path: Path, vectors: NDArray[np.float32], questions: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    hits, is_graph = found(tmp_path, DEFAULT, points(vectors[:2000]), questions, monkeypatch)
    assert not is_graph
    assert hits == exact(vectors[:2000], questions)


@pytest.mark.parametrize("quantization", list(Quantization))
def test_a_shard_keeps_the_parameters_that_it_was_made_with(tmp_path: Path, quantization: Quantization) -> None:
    index = replace(DEFAULT, m=24, ef_construct=77, quantization=quantization)
    kept = shards.config(DIMENSION, index).vectors["dense"]
    assert kept.hnsw_config is not None
    assert (kept.hnsw_config.m, kept.hnsw_config.ef_construct) == (24, 77)
    names = {"NoneType": "none", "ScalarQuantizationConfig": "int8", "BinaryQuantizationConfig": "binary"}
    assert names[type(kept.quantization_config).__name__] == quantization


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, FakeQdrant]]:
    with fake_qdrant(tmp_path) as both:
        yield both


def test_a_server_is_told_the_same(server: tuple[str, FakeQdrant], vectors: NDArray[np.float32]) -> None:
    url, qdrant = server
    store = open_server(url, None)
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert(points(vectors[:20]))
        writer.publish()
    (created,) = (collection.created for collection in qdrant.collections.values())
    dense = created["vectors"]["dense"]
    assert (dense["hnsw_config"]["m"], dense["hnsw_config"]["ef_construct"]) == (DEFAULT.m, DEFAULT.ef_construct)
    assert dense["quantization_config"]["scalar"]["type"] == DEFAULT.quantization == "int8"
    assert created["optimizers_config"]["indexing_threshold"] == DEFAULT.scanned_up_to_kb
    store.reader("code").search(vectors[3], NO_TERMS, LIMIT, ANYWHERE)
    asked = next(search for search in qdrant.searches if search["using"] == DENSE)
    assert asked["params"]["hnsw_ef"] == DEFAULT.ef
    assert asked["params"]["quantization"] == {"rescore": True, "oversampling": DEFAULT.oversampling}
