"""Indexing: ugly trees, what is embedded again and what is not."""

import os
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from slipstream.ensemble.retrieval import chunker, sources
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.errors import CollectionNotFound
from slipstream.ensemble.retrieval.index import NothingToIndex
from slipstream.ensemble.retrieval.roots import SourceNotFound
from slipstream.ensemble.retrieval.store import VersionInfo
from tests.ensemble.retrieval.indexing import NAME, Recorder, find, function, run, versions, write
from tests.ensemble.retrieval.unprivileged import unprivileged
from tests.tiny_bert import export_tiny_embedder


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path / "index")


def test_a_path_that_is_not_there_is_named(store: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="nowhere"):
        run(tmp_path / "nowhere", store=store, embedder=embedder)


def test_an_empty_folder_is_told_and_publishes_nothing(store: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(NothingToIndex, match=r"void \(left out: nothing, it is empty\)"):
        run(tmp_path / "void", store=store, embedder=embedder)
    with pytest.raises(CollectionNotFound):
        store.current(NAME)
    assert not (tmp_path / "index").exists()


def test_a_folder_of_what_is_left_out_says_what_it_was(store: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.bin", "x")
    (tmp_path / "data" / "b.py").write_bytes(b"x = 1\0")
    with pytest.raises(NothingToIndex, match=r"1 unknown_language, 1 binary|1 binary, 1 unknown_language"):
        run(tmp_path / "data", store=store, embedder=embedder)


def test_files_of_blank_lines_are_nothing(store: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    write(tmp_path / "blank" / "a.py", "\n\n")
    write(tmp_path / "blank" / "b.py", "")
    with pytest.raises(NothingToIndex):
        run(tmp_path / "blank", store=store, embedder=embedder)
    assert versions(store, tmp_path) == set()


def test_what_was_published_outlives_a_folder_that_was_emptied(
    store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path
) -> None:
    before = run(tree, store=store, embedder=embedder)
    for path in tree.rglob("*.*"):
        path.unlink()
    with pytest.raises(NothingToIndex):
        run(tree, store=store, embedder=embedder)
    assert store.current(NAME).version == before.version


def test_one_empty_root_of_two_is_told(store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    report = run(tree, tmp_path / "void", store=store, embedder=embedder)
    assert report.empty_roots == [str(tmp_path / "void")]
    assert report.files == 3


# Ugly trees


def test_an_ugly_tree_is_indexed_and_what_was_left_out_is_counted(
    store: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    root = tmp_path / "ugly"
    write(root / "fine.py", function("fine"))
    write(root / "syntax.py", "def broken(:\n    return ]]\n\n\nclass Left\n    pass\n")
    (root / "latin.py").write_bytes("def gr\xfc\xdfe():\n    return 'd\xe9j\xe0 vu'\n".encode("latin-1"))
    (root / "binary.py").write_bytes(b"a = 1\0\0")
    with (root / "huge.py").open("wb") as file:
        file.truncate(50_000_000)
    (root / "loop").symlink_to(root)
    (root / "self.py").symlink_to(root / "self.py")
    write(root / ".hidden.py", function("hidden"))
    write(root / ".gitignore", "ignored.py\n")
    write(root / "ignored.py", function("ignored"))
    write(root / "api_pb2.py", function("generated"))
    os.mkfifo(root / "pipe.py")
    report = run(root, store=store, embedder=embedder)
    assert report.files == 3
    assert report.skipped == {
        "symlink_loop": 2, "hidden": 2, "binary": 1, "too_large": 1, "ignored": 1, "generated": 1, "unreadable": 1,
    }  # fmt: skip
    assert {hit.path for hit in find(store, embedder, "fine broken größe")} == {"fine.py", "syntax.py", "latin.py"}
    assert any("déjà vu" in text for text in embedder.texts)


def test_a_file_that_vanishes_before_its_turn_is_counted(store: EdgeStore, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(5):
        write(root / f"m{number}.py", *(function(f"f{number}_{each}") for each in range(130)))

    class Vandal(Recorder):
        def meanwhile(self) -> None:
            (root / "m4.py").unlink(missing_ok=True)

    report = run(root, store=store, embedder=Vandal(folder))
    assert (report.files, report.skipped) == (4, {"unreadable": 1})
    assert report.chunks == 4 * 130
    assert run(root, store=store, embedder=Recorder(folder)).unchanged  # it is still gone
    write(root / "m4.py", *(function(f"f4_{each}") for each in range(130)))  # as it was when it was seen first
    report = run(root, store=store, embedder=Recorder(folder))
    assert (report.files, report.chunks, report.embedded) == (5, 5 * 130, 130)


def test_a_file_that_changes_before_its_turn_and_back_is_indexed_again(
    store: EdgeStore, folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    for number in range(5):
        write(root / f"m{number}.py", *(function(f"f{number}_{each}") for each in range(130)))
    before = (root / "m4.py").read_bytes()

    class Editor(Recorder):
        def meanwhile(self) -> None:
            if not self.texts:  # once: a file that is being written may be read when it is cut
                write(root / "m4.py", function("half_saved"))

    assert run(root, store=store, embedder=Editor(folder)).chunks == 4 * 130 + 1
    (root / "m4.py").write_bytes(before)
    report = run(root, store=store, embedder=Recorder(folder))
    assert (report.unchanged, report.chunks, report.embedded, report.removed) == (False, 5 * 130, 130, 1)


def test_a_file_that_vanishes_alone_is_nothing(
    store: EdgeStore, embedder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "one" / "a.py", function("only"))
    known = store.versions

    def versions(collection: str) -> list[VersionInfo]:
        (tmp_path / "one" / "a.py").unlink()
        return known(collection)

    monkeypatch.setattr(store, "versions", versions)
    with pytest.raises(NothingToIndex, match="1 unreadable"):
        run(tmp_path / "one", store=store, embedder=embedder)


def test_what_may_not_be_read_is_counted(store: EdgeStore, embedder: Recorder, tree: Path) -> None:
    (tree / "main.go").chmod(0)
    (tree / "deep").chmod(0)
    try:
        report = unprivileged(lambda: run(tree, store=store, embedder=embedder))
    finally:
        (tree / "deep").chmod(0o700)
    assert (report.files, report.skipped) == (1, {"unreadable": 2})


# Again


def test_the_same_again_publishes_nothing(store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path) -> None:
    first = run(tree, store=store, embedder=embedder)
    embedder.texts.clear()
    os.utime(tree / "cart.py")
    again = run(tree, store=store, embedder=embedder)
    assert (first.unchanged, again.unchanged) == (False, True)
    assert (again.version, again.chunks, again.reused, again.embedded) == (first.version, 5, 5, 0)
    assert embedder.texts == []
    assert versions(store, tmp_path) == {first.version, "CURRENT"}


def test_only_what_changed_is_embedded_again(store: EdgeStore, embedder: Recorder, tree: Path) -> None:
    first = run(tree, store=store, embedder=embedder)
    assert (first.chunks, first.embedded, first.reused, first.removed) == (5, 5, 0, 0)
    embedder.texts.clear()
    write(tree / "cart.py", function("add_item"), function("remove_item").replace("value +", "stock +"))
    second = run(tree, store=store, embedder=embedder)
    assert (second.chunks, second.embedded, second.reused, second.removed) == (5, 1, 4, 1)
    assert ["remove item" in text for text in embedder.texts] == [True]


def test_punctuation_is_stored_but_not_embedded_again(store: EdgeStore, embedder: Recorder, tree: Path) -> None:
    """The embedder reads words alone."""
    run(tree, store=store, embedder=embedder)
    embedder.texts.clear()
    write(tree / "cart.py", function("add_item"), function("remove_item").replace("value +", "value -"))
    report = run(tree, store=store, embedder=embedder)
    assert (report.chunks, report.embedded, report.reused, report.removed) == (5, 0, 5, 0)
    with closing(store.reader(NAME)) as reader:
        texts = [point.chunk.text for point in reader.scroll()]
    assert sum("value - len" in text for text in texts) == 1
    assert sum("remove_item" in text for text in texts) == 1


def test_lines_that_moved_keep_their_vectors_and_get_their_new_numbers(
    store: EdgeStore, embedder: Recorder, tree: Path
) -> None:
    run(tree, store=store, embedder=embedder)
    write(tree / "cart.py", "# one\n# two comments\n", function("add_item"), function("remove_item"))
    report = run(tree, store=store, embedder=embedder)
    assert report.reused >= 4
    reader = store.reader(NAME)
    line = next(point.chunk.line_start for point in reader.scroll() if point.chunk.symbol == "remove_item")
    reader.close()
    assert (tree / "cart.py").read_text().splitlines()[line - 1].startswith("def remove_item")


def test_a_deleted_file_is_gone(store: EdgeStore, embedder: Recorder, tree: Path) -> None:
    run(tree, store=store, embedder=embedder)
    (tree / "deep" / "price.py").unlink()
    report = run(tree, store=store, embedder=embedder)
    assert (report.chunks, report.embedded, report.removed) == (3, 0, 2)
    assert not [hit for hit in find(store, embedder, "round_price") if hit.path == "deep/price.py"]


def test_an_index_made_in_steps_equals_one_made_at_once(
    store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path
) -> None:
    run(tree, store=store, embedder=embedder)
    write(tree / "cart.py", function("add_item"), function("check_out"))
    run(tree, store=store, embedder=embedder)
    fresh = EdgeStore(tmp_path / "fresh")
    run(tree, store=fresh, embedder=embedder)
    with closing(store.reader(NAME)) as stepwise, closing(fresh.reader(NAME)) as at_once:
        expected = {point.chunk: point.dense for point in at_once.scroll(with_vectors=True)}
        found = {point.chunk: point.dense for point in stepwise.scroll(with_vectors=True)}
    assert found.keys() == expected.keys()
    for chunk, vector in expected.items():
        np.testing.assert_array_equal(found[chunk], vector)


def test_another_embedder_embeds_everything_again(
    store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path
) -> None:
    first = run(tree, store=store, embedder=embedder)
    export_tiny_embedder(tmp_path / "other", seed=1)
    other = Recorder(tmp_path / "other")
    second = run(tree, store=store, embedder=other)
    assert (second.unchanged, second.embedded, second.reused, second.removed) == (False, 5, 0, 0)
    assert second.version != first.version
    assert store.current(NAME).embedder_digest == other.digest


def test_equal_text_is_embedded_once_and_found_in_both_places(
    store: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    write(tmp_path / "twice" / "a.py", function("same"), function("between"), function("same"))
    report = run(tmp_path / "twice", store=store, embedder=embedder)
    assert report.chunks == 3
    assert len(embedder.texts) == len(set(embedder.texts)) == 2


def test_pieces_of_a_line_that_repeats_itself_are_counted_as_they_are_kept(
    store: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    write(tmp_path / "long" / "a.md", "abcdefgh " * 1_000 + "\n")
    report = run(tmp_path / "long", store=store, embedder=embedder)
    assert report.chunks == report.embedded + report.reused
    again = run(tmp_path / "long", tmp_path, store=store, embedder=embedder)
    assert again.chunks == again.embedded + again.reused


def test_the_code_that_shapes_chunks_is_part_of_what_was_indexed(
    store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tree, store=store, embedder=embedder)
    changed = tmp_path / "chunker.py"
    changed.write_bytes(Path(str(chunker.__file__)).read_bytes() + b"# one more rule\n")
    monkeypatch.setattr(chunker, "__file__", str(changed))
    sources.shaping_code.cache_clear()  # a process has one
    report = run(tree, store=store, embedder=embedder)
    assert (report.unchanged, report.reused) == (False, 5)
    assert run(tree, store=store, embedder=embedder).unchanged
    sources.shaping_code.cache_clear()


def test_another_name_of_the_repository_is_a_change(store: EdgeStore, embedder: Recorder, tree: Path) -> None:
    run(tree, store=store, embedder=embedder)
    git = ["git", "-C", str(tree)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://example.org/team/engine.git"], check=True)
    assert run(tree, store=store, embedder=embedder).unchanged is False
    assert {hit.repo for hit in find(store, embedder, "add_item")} == {"engine"}


# Beside a server, and beside another run
