"""Searching what is published, while it changes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from slipstream.ensemble.contracts import SearchRequest, SearchResult
from slipstream.ensemble.retrieval.bm25 import FORMAT_FACT
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder
from slipstream.ensemble.retrieval.errors import (
    CollectionNotFound,
    CollectionOutdated,
    EmbedderMismatch,
    StoreUnavailable,
)
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.store import DenseVector, VectorStore, VersionInfo, checked
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, dense, paths, point, publish


@pytest.fixture
def searcher(store: VectorStore) -> Iterator[Searcher]:
    with closing(Searcher(store, EMBEDDER)) as searcher:
        yield searcher


def ask(searcher: Searcher, query: str = "def", *, word: str | None = None, **fields: object) -> SearchResult:
    request = SearchRequest.model_validate({"query": query, "collection": "code"} | fields)
    return searcher.search(request, dense(word or query))


def test_a_result_says_where_it_comes_from(store: VectorStore, searcher: Searcher) -> None:
    version = publish(store, [point("a.py", "def retry(): ..."), point("b.py", "def other(): ...")]).version
    result = ask(searcher, "retry", word="def retry(): ...", limit=1)
    assert paths(result.hits) == ["a.py"]
    assert (result.collection, result.index_version) == ("code", version)


def test_how_sure_it_is_depends_on_the_length_of_the_question_and_on_the_collection(
    store: VectorStore, searcher: Searcher
) -> None:
    publish(store, [point("a.py", "def retry(): ..."), point("b.py", "def other(): ...")])
    short, long = (ask(searcher, query, word="def").confidence for query in ("retry", "retry beyond all known words"))
    assert 0 < long < short < 1
    publish(store, [point(f"{number}.py", f"x{number}", word="def") for number in range(50)])
    many = ask(searcher, "unheard", word="def").confidence
    publish(store, [point("0.py", "x0", word="def")])
    assert 0 < many < ask(searcher, "unheard", word="def").confidence < 1


def test_the_filters_of_the_request_hold(store: VectorStore, searcher: Searcher) -> None:
    publish(
        store,
        [point("src/a.py"), point("src/b.go", language="go"), point("doc/c.py"), point("src/d.py", repo="bank")],
    )
    assert paths(ask(searcher, path_prefix="src", language="python", repo="shop").hits) == ["src/a.py"]


def test_an_unknown_collection_is_told(searcher: Searcher) -> None:
    with pytest.raises(CollectionNotFound) as caught:
        ask(searcher, collection="nothing")
    assert "slipstream index" in caught.value.remedy


def test_another_embedders_collection_is_refused(store: VectorStore) -> None:
    publish(store, [point("a.py")])
    with closing(Searcher(store, "f" * 64)) as searcher, pytest.raises(EmbedderMismatch) as caught:
        ask(searcher)
    assert "slipstream index" in caught.value.remedy


@pytest.mark.parametrize("before", [1, None])
def test_a_collection_of_another_release_is_refused(store: VectorStore, searcher: Searcher, before: int | None) -> None:
    """Its chunks have other words than this release looks for, and would be found by chance."""
    with store.writer("code", EMBEDDER, DIMENSION, **{FORMAT_FACT: before}) as writer:
        writer.upsert([point("a.py")])
        writer.publish()
    with pytest.raises(CollectionOutdated) as caught:
        ask(searcher)
    assert "slipstream index" in caught.value.remedy


def test_a_collection_that_another_embedder_rebuilt_is_refused(store: VectorStore, searcher: Searcher) -> None:
    publish(store, [point("a.py")])
    assert paths(ask(searcher).hits) == ["a.py"]
    with store.writer("code", "f" * 64, DIMENSION) as writer:
        writer.upsert([point("b.py")])
        writer.publish()
    with pytest.raises(EmbedderMismatch):
        ask(searcher)
    publish(store, [point("c.py")])
    assert paths(ask(searcher).hits) == ["c.py"]


def test_another_embedders_version_that_comes_in_between_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EdgeStore(tmp_path)
    asked = publish(store, [point("a.py")])
    with store.writer("code", "f" * 64, DIMENSION) as writer:
        writer.upsert([point("b.py")])
        opened = writer.publish().version
    monkeypatch.setattr(store, "current", lambda collection: asked)
    with closing(Searcher(store, EMBEDDER)) as searcher:
        with pytest.raises(EmbedderMismatch):
            ask(searcher)
        lock = CollectionFolder(tmp_path, "code").reader_lock(opened)
        assert lock.acquire()
        lock.release()


def test_what_is_published_is_searched_at_once(store: VectorStore, searcher: Searcher) -> None:
    for name in ("a.py", "b.py", "c.py"):
        version = publish(store, [point(name)]).version
        result = ask(searcher)
        assert (paths(result.hits), result.index_version) == ([name], version)


def test_a_dropped_collection_is_gone_and_can_come_back(store: VectorStore, searcher: Searcher) -> None:
    publish(store, [point("a.py")])
    ask(searcher)
    store.drop("code")
    with pytest.raises(CollectionNotFound):
        ask(searcher)
    publish(store, [point("b.py")])
    assert paths(ask(searcher).hits) == ["b.py"]


def test_threads_search_through_a_switch(store: VectorStore, searcher: Searcher) -> None:
    versions = {publish(store, [point("0.py")]).version: "0.py"}
    done = threading.Event()

    def search_on() -> list[SearchResult]:
        results = [ask(searcher)]
        while not done.is_set():
            results.append(ask(searcher))
        return [*results, ask(searcher)]

    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search_on) for _ in range(4)]
        for name in ("1.py", "2.py", "3.py"):
            versions[publish(store, [point(name)]).version] = name
        done.set()
    for results in (search.result() for search in searches):
        assert all(paths(result.hits) == [versions[result.index_version]] for result in results)
        assert paths(results[-1].hits) == ["3.py"]


def test_the_replaced_version_is_let_go(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    first = publish(store, [point("a.py")]).version
    with closing(Searcher(store, EMBEDDER)) as searcher:
        ask(searcher)
        publish(store, [point("b.py")])
        ask(searcher)
        publish(store, [point("c.py")])
        assert not (tmp_path / "code" / first).exists()
        assert paths(ask(searcher).hits) == ["c.py"]


def test_a_search_under_way_keeps_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EdgeStore(tmp_path)
    publish(store, [point("old.py")])
    inside, go_on = threading.Event(), threading.Event()

    def checked_slowly(info: VersionInfo, vector: DenseVector) -> object:
        """The first thing that a reader does in a search."""
        if np.array_equal(vector, dense("slow")):
            inside.set()
            assert go_on.wait(30)
        return checked(info, vector)

    monkeypatch.setattr("slipstream.ensemble.retrieval.edge.store.checked", checked_slowly)
    with closing(Searcher(store, EMBEDDER)) as searcher, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, searcher, "def", word="slow")
        assert inside.wait(30)
        publish(store, [point("new.py")])
        assert paths(ask(searcher).hits) == ["new.py"]
        go_on.set()
        assert paths(slow.result().hits) == ["old.py"]


def test_a_closed_searcher_lets_other_processes_read(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    version = publish(store, [point("a.py")]).version
    lock = CollectionFolder(tmp_path, "code").reader_lock(version)
    searcher = Searcher(store, EMBEDDER)
    ask(searcher)
    assert not lock.acquire()
    searcher.close()
    assert lock.acquire()
    lock.release()


def test_a_damaged_version_is_told_and_the_next_one_answers(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    publish(store, [point("a.py")])
    with closing(Searcher(store, EMBEDDER)) as searcher:
        ask(searcher)
        version = publish(store, [point("b.py")]).version
        next((tmp_path / "code" / version).rglob("mutable_id_tracker.mappings")).unlink()
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                ask(searcher)
            assert "slipstream index" in caught.value.remedy
        publish(store, [point("c.py")])
        assert paths(ask(searcher).hits) == ["c.py"]
