"""What every vector store promises, tried on Qdrant Edge and on `qdrant-client`."""

import unicodedata
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import FORMAT, FORMAT_FACT, encode_query
from slipstream.ensemble.retrieval.errors import (
    CollectionNameInvalid,
    CollectionNotFound,
    EmbedderMismatch,
    StoreUnavailable,
)
from slipstream.ensemble.retrieval.store import Point, SparseVector, VectorStore
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, dense, paths, point, publish, search


def test_an_empty_store_has_nothing(store: VectorStore) -> None:
    assert store.collections() == []
    assert store.vectors("code") == {}
    for ask in (store.current, store.reader, store.drop):
        with pytest.raises(CollectionNotFound) as caught:
            ask("code")
        assert "slipstream index" in caught.value.remedy


@pytest.mark.parametrize("name", ["", ".", "..", "../code", "a/b", "/etc", ".hidden", "имя", "a b", "code\n", "x" * 65])
def test_a_name_that_is_no_name_is_refused(store: VectorStore, name: str) -> None:
    asks: list[Any] = [store.current, store.reader, store.drop, store.vectors]
    for ask in (*asks, lambda name: store.writer(name, EMBEDDER, DIMENSION)):
        with pytest.raises(CollectionNameInvalid):
            ask(name)


def test_what_was_published_is_known(store: VectorStore) -> None:
    with store.writer("code", EMBEDDER, DIMENSION, roots=["src"], skipped={"binary": 2}) as writer:
        writer.upsert([point("a.py"), point("b.py")])
        published = writer.publish()
    assert published == store.current("code")
    assert store.collections() == [published]
    assert (published.collection, published.embedder_digest, published.dimension) == ("code", EMBEDDER, DIMENSION)
    assert published.chunks == 2
    assert published.facts == {"roots": ["src"], "skipped": {"binary": 2}, FORMAT_FACT: FORMAT}


def test_words_and_meaning_are_both_found(store: VectorStore) -> None:
    far = next(word for word in map(str, range(99)) if dense(word) @ dense("wanted") < -0.1)
    publish(
        store,
        [
            point("meaning.py", "totally different words", word="wanted"),
            point("words.py", "def retry_budget(): ..."),
            *(point(f"other{i}.py", word=far) for i in range(20)),
        ],
    )
    with closing(store.reader("code")) as reader:
        hits = search(reader, "retryBudget of retry_budget", word="wanted", limit=2)
    assert set(paths(hits)) == {"meaning.py", "words.py"}


def test_a_chunk_that_both_lists_name_comes_first(store: VectorStore) -> None:
    publish(store, [point("both.py", "alpha beta"), point("words.py", "alpha beta gamma"), point("other.py", "zeta")])
    with closing(store.reader("code")) as reader:
        best, *_ = search(reader, "alpha beta")
    assert best.path == "both.py"
    assert best.score > 1  # the cosine, and something for its words


def test_a_test_stands_below_what_it_tests_unless_tests_are_asked_for(store: VectorStore) -> None:
    tested = point("cart.py", "total of the cart", word="same")
    publish(store, [point("tests/test_cart.py", "total of the cart, cart", word="same"), tested])
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "total of the cart", word="same")) == ["cart.py", "tests/test_cart.py"]
        assert paths(search(reader, "tests of the cart", word="same")) == ["tests/test_cart.py", "cart.py"]


def test_a_rare_word_weighs_more_than_a_common_one(store: VectorStore) -> None:
    common = [point(f"common{i}.py", "shared shared shared", word="same") for i in range(8)]
    publish(store, [*common, point("rare.py", "unusual unlike anything", word="same")])
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "shared unusual", word="same", limit=1)) == ["rare.py"]


def test_a_hit_carries_the_chunk(store: VectorStore) -> None:
    text = "def f():\n    '''Кавычки «»\x00\t𝄞'''\n"
    publish(store, [point("dir/модуль.py", text, line=7, repo="магазин")])
    with closing(store.reader("code")) as reader:
        (hit,) = search(reader, "кавычки")
    assert (hit.path, hit.line_start, hit.line_end, hit.symbol) == ("dir/модуль.py", 7, 9, "f")
    assert (hit.repo, hit.language, hit.text) == ("магазин", "python", text)


def test_a_hit_knows_the_empty_lines_behind_it(store: VectorStore) -> None:
    followed = point("a.py")
    publish(store, [replace(followed, chunk=replace(followed.chunk, empty_after=2))])
    with closing(store.reader("code")) as reader:
        (hit,) = search(reader, "f")
        (kept,) = reader.scroll()
    assert (hit.empty_after, kept.chunk.empty_after) == (2, 2)
    assert "empty_after" not in hit.model_dump()


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_limit_is_kept(store: VectorStore, limit: int) -> None:
    publish(store, [point(f"{i}.py", f"word number {i}") for i in range(150)])
    with closing(store.reader("code")) as reader:
        assert len(search(reader, "word", limit=limit)) == limit


def test_a_question_without_words_is_answered_by_meaning(store: VectorStore) -> None:
    publish(store, [point("a.py", word="wanted"), point("b.py")])
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "?!", word="wanted", limit=1)) == ["a.py"]


def test_a_chunk_without_words_is_kept(store: VectorStore) -> None:
    publish(store, [point("a.py", "{};", word="wanted"), point("b.py")])
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "?!", word="wanted", limit=1)) == ["a.py"]


def test_an_empty_version_is_a_collection_without_hits(store: VectorStore) -> None:
    publish(store, [])
    with closing(store.reader("code")) as reader:
        assert reader.info.chunks == 0
        assert search(reader, "anything") == list(reader.scroll()) == []
    assert store.vectors("code") == {}


def test_the_same_chunk_twice_is_one(store: VectorStore) -> None:
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("a.py"), point("a.py")])
        writer.upsert([point("a.py")])
        assert writer.publish().chunks == 1


def test_equal_text_in_two_files_is_two_chunks(store: VectorStore) -> None:
    publish(store, [point("a.py", "same"), point("b.py", "same"), point("b.py", "same", line=9)])
    with closing(store.reader("code")) as reader:
        found = [(hit.path, hit.line_start) for hit in search(reader, "same")]
    assert found == [("a.py", 1), ("b.py", 1), ("b.py", 9)]
    assert len(store.vectors("code")) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_equal_scores_are_ordered_by_place_however_they_were_indexed(store: VectorStore, order: int) -> None:
    points = [point(f"{name}.py", "same text") for name in "bcdefghjkl"][::order]
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        for one in points:
            writer.upsert([one])
        writer.publish()
    with closing(store.reader("code")) as reader:
        hits = search(reader, "same", limit=4)
    assert paths(hits) == ["b.py", "c.py", "d.py", "e.py"]
    assert len({hit.score for hit in hits}) == 1


FILES = ["src/app/main.py", "src/app/core/main.py", "src/apple.py", "src/app.py", "lib/src/app/x.py", "Src/app/y.py"]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("src/app", {"src/app/main.py", "src/app/core/main.py"}),
        ("src/app/", {"src/app/main.py", "src/app/core/main.py"}),
        ("./src//app", {"src/app/main.py", "src/app/core/main.py"}),
        ("/src/app/core", {"src/app/core/main.py"}),
        ("src/app.py", {"src/app.py"}),
        ("src/app/ma", set()),
        ("app", set()),
        ("src/*", set()),
        ("../src", set()),
        ("", set(FILES)),
        ("/", set(FILES)),
        (None, set(FILES)),
    ],
)
def test_path_prefix_is_a_folder_or_a_file(store: VectorStore, prefix: str | None, expected: set[str]) -> None:
    publish(store, [point(path) for path in FILES])
    with closing(store.reader("code")) as reader:
        assert set(paths(search(reader, "def", where=SearchFilter(path_prefix=prefix)))) == expected


def test_every_filter_must_match(store: VectorStore) -> None:
    publish(
        store,
        [
            point("src/a.py"),
            point("src/a.go", language="go"),
            point("src/b.py", repo="bank"),
            point("doc/a.py"),
        ],
    )
    with closing(store.reader("code")) as reader:
        assert set(paths(search(reader, "def", where=SearchFilter(language="go")))) == {"src/a.go"}
        assert set(paths(search(reader, "def", where=SearchFilter(repo="bank")))) == {"src/b.py"}
        where = SearchFilter(repo="shop", language="python", path_prefix="src")
        assert set(paths(search(reader, "def", where=where))) == {"src/a.py"}
        assert search(reader, "def", where=SearchFilter(repo="nobody")) == []


def test_three_among_thousands_are_found(store: VectorStore) -> None:
    crowd = [point(f"crowd/{i}.py", f"wanted wanted {i}", word="wanted") for i in range(3000)]
    few = [point(f"few/{i}.py", f"nothing like it {i}", word=f"far{i}") for i in range(3)]
    publish(store, [*crowd[:1500], *few, *crowd[1500:]])
    with closing(store.reader("code")) as reader:
        hits = search(reader, "wanted", limit=10, where=SearchFilter(path_prefix="few"))
    assert set(paths(hits)) == {"few/0.py", "few/1.py", "few/2.py"}


def test_paths_of_other_scripts_are_filtered_as_they_are(store: VectorStore) -> None:
    decomposed = unicodedata.normalize("NFD", "й")
    publish(store, [point("папка/й.py"), point(f"папка/{decomposed}.py"), point("名前/😀 x.py")])
    with closing(store.reader("code")) as reader:
        assert len(search(reader, "def", where=SearchFilter(path_prefix="папка"))) == 2
        assert paths(search(reader, "def", where=SearchFilter(path_prefix="папка/й.py"))) == ["папка/й.py"]
        assert paths(search(reader, "def", where=SearchFilter(path_prefix="名前"))) == ["名前/😀 x.py"]


def test_scroll_gives_every_chunk_once(store: VectorStore) -> None:
    points = [point(f"d{i % 7}/{i}.py", f"text {i}") for i in range(700)]
    publish(store, points)
    with closing(store.reader("code")) as reader:
        bare = list(reader.scroll())
        full = {one.chunk: one for one in reader.scroll(with_vectors=True)}
    assert sorted(one.chunk.path for one in bare) == sorted(one.chunk.path for one in points)
    assert all(len(one.dense) == 0 and one.sparse == SparseVector([], []) for one in bare)
    for expected in points:
        found = full[expected.chunk]
        assert found.dense == pytest.approx(expected.dense, abs=1e-6)
        assert dict(zip(found.sparse.indices, found.sparse.values, strict=True)) == pytest.approx(
            dict(zip(expected.sparse.indices, expected.sparse.values, strict=True))
        )


def test_vectors_can_be_reused(store: VectorStore) -> None:
    points = [point("a.py", "one"), point("b.py", "two")]
    publish(store, points)
    with closing(store.reader("code")):
        vectors = store.vectors("code")
    assert set(vectors) == {one.chunk.digest for one in points}
    for one in points:
        found = vectors[one.chunk.digest]
        assert (found.dtype, found.shape) == (np.float32, (DIMENSION,))
        assert found == pytest.approx(one.dense, abs=1e-6)


def test_a_reader_keeps_its_version_while_the_next_is_published(store: VectorStore) -> None:
    first = publish(store, [point("old.py")])
    with closing(store.reader("code")) as old:
        with store.writer("code", EMBEDDER, DIMENSION) as writer:
            writer.upsert([point("new.py")])
            assert store.current("code") == first
            assert paths(search(old, "def")) == ["old.py"]
            second = writer.publish()
        assert paths(search(old, "def")) == ["old.py"]
        assert [one.chunk.path for one in old.scroll()] == ["old.py"]
        assert store.current("code") == second != first
        with closing(store.reader("code")) as new:
            assert paths(search(new, "def")) == ["new.py"]


def test_two_readers_of_one_version(store: VectorStore) -> None:
    publish(store, [point("a.py")])
    with closing(store.reader("code")) as one:
        store.reader("code").close()
        assert paths(search(one, "def")) == ["a.py"]
    with closing(store.reader("code")) as again:
        assert paths(search(again, "def")) == ["a.py"]


def test_collections_do_not_mix(store: VectorStore) -> None:
    publish(store, [point("a.py")], "code")
    publish(store, [point("b.py")], "code__docs")
    publish(store, [point("c.py")], "code.docs")
    assert [info.collection for info in store.collections()] == ["code", "code.docs", "code__docs"]
    store.drop("code")
    assert [info.collection for info in store.collections()] == ["code.docs", "code__docs"]
    with closing(store.reader("code__docs")) as reader:
        assert paths(search(reader, "def")) == ["b.py"]
    with pytest.raises(CollectionNotFound):
        store.current("code")
    publish(store, [point("d.py")], "code")
    assert store.current("code").chunks == 1


def test_what_is_discarded_was_never_there(store: VectorStore) -> None:
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("a.py")])
    with pytest.raises(CollectionNotFound):
        store.current("code")
    first = publish(store, [point("a.py")])

    class Interrupted(BaseException):
        pass

    with suppress(Interrupted), store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("b.py")])
        raise Interrupted
    assert store.current("code") == first
    for do in (lambda: writer.upsert([point("b.py")]), writer.publish):
        with pytest.raises(StoreUnavailable):
            do()
    assert publish(store, [point("c.py")]).chunks == 1


def test_a_vector_that_does_not_fit_is_refused(store: VectorStore) -> None:
    good = point("a.py")
    publish(store, [good])
    with closing(store.reader("code")) as reader, store.writer("code", EMBEDDER, DIMENSION) as writer:
        for wrong in ([0.5] * (DIMENSION + 1), [], [float("nan")] * DIMENSION, [float("inf")] * DIMENSION):
            with pytest.raises(EmbedderMismatch):
                reader.search(wrong, encode_query("def"), 5, SearchFilter())
            with pytest.raises(EmbedderMismatch):
                writer.upsert([good, Point(good.chunk, wrong, good.sparse)])
        assert writer.publish().chunks == 0


def test_scores_are_finite_for_a_vector_of_zeros(store: VectorStore) -> None:
    publish(store, [point("a.py"), point("b.py")])
    with closing(store.reader("code")) as reader:
        hits = reader.search([0.0] * DIMENSION, encode_query(""), 5, SearchFilter()).hits
    assert np.isfinite([hit.score for hit in hits]).all()
