"""A version that starts from another one is what it would be if it had been built whole."""

import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.bm25 import encode_query
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge.vectors import segments
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder
from slipstream.ensemble.retrieval.store import Hit, Reader
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import NAME, Recorder, function, run, write

QUERIES = ("add_item", "round the price of an item", "def f7", "value", "What f12 does")


def hits(reader: Reader, embedder: Recorder) -> list[list[Hit]]:
    return [reader.search(embedder.embed([q])[0], encode_query(q), 10, SearchFilter()).hits for q in QUERIES]


def contents(reader: Reader) -> list[tuple[Any, ...]]:
    return sorted((p.chunk.path, p.chunk.line_start, p.chunk.line_end, p.chunk.text) for p in reader.scroll())


def test_ten_changes_one_by_one_are_as_all_at_once(tmp_path: Path, embedder: Recorder) -> None:
    root, dice = tmp_path / "shop", random.Random(7)  # noqa: S311
    stepwise, at_once = EdgeStore(tmp_path / "stepwise"), EdgeStore(tmp_path / "once")
    for number in range(24):
        write(root / f"m{number}.py", *(function(f"f{number}_{each}") for each in range(3)))
    run(root, store=stepwise, embedder=embedder)
    for step in range(10):
        gone, changed = dice.sample(sorted(root.glob("*.py")), 2)
        gone.unlink()
        write(changed, function(f"f{step}_changed"), function("add_item"))
        write(root / f"new{step}.py", function(f"f{step}_new"))
        embedder.texts.clear()
        run(root, store=stepwise, embedder=embedder)
        assert len(embedder.texts) <= 3
    run(root, store=at_once, embedder=embedder)
    with closing(stepwise.reader(NAME)) as one, closing(at_once.reader(NAME)) as other:
        assert contents(one) == contents(other)
        for found, expected in zip(hits(one, embedder), hits(other, embedder), strict=True):
            assert [hit.model_copy(update={"score": 0.0}) for hit in found] == [
                hit.model_copy(update={"score": 0.0}) for hit in expected
            ]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-4)
    assert set(stepwise.files(stepwise.current(NAME))) == set(at_once.files(at_once.current(NAME)))


def test_the_version_before_is_not_touched(tmp_path: Path, embedder: Recorder, tree: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    first = run(tree, store=store, embedder=embedder).version
    write(tree / "new.py", function("brand_new"))
    run(tree, store=store, embedder=embedder)
    store.check(NAME, first)  # the checksum of every file
    with closing(store.reader(NAME, first)) as reader:
        assert {point.chunk.path for point in reader.scroll()} == {"cart.py", "deep/price.py", "main.go"}
    store.check(NAME, first)
    store.check(NAME)


@pytest.mark.parametrize("name", ["shard/**/page_0.dat", "files.txt", "vectors/*.f32"])
def test_a_damaged_version_is_not_built_upon(name: str, tmp_path: Path, embedder: Recorder, tree: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    version = run(tree, store=store, embedder=embedder).version
    damaged = max((tmp_path / "index" / NAME / version).glob(name), key=lambda path: path.stat().st_blocks)
    data = bytearray(damaged.read_bytes())
    data[0] ^= 1
    damaged.write_bytes(data)
    write(tree / "new.py", function("brand_new"))
    assert run(tree, store=store, embedder=embedder).chunks == 6
    store.check(NAME)
    with closing(store.reader(NAME)) as reader:
        assert len(contents(reader)) == 6


def test_vectors_are_shared_until_there_are_many_pieces(tmp_path: Path, embedder: Recorder, tree: Path) -> None:
    store = EdgeStore(tmp_path / "index")
    counts = []
    for number in range(12):
        write(tree / "new.py", function(f"number_{number}"))
        version = run(tree, store=store, embedder=embedder).version
        counts.append(len(segments(tmp_path / "index" / NAME / version)))
    assert max(counts) == 8
    assert min(counts[8:]) < 8
    assert len(store.vectors(NAME)) >= 6
    pairs = [path for path in (tmp_path / "index" / NAME / version).rglob("*.f32") if path.stat().st_nlink > 1]
    assert pairs


SCRIPT = """
import os, sys, time
from pathlib import Path
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import build_index

class Stuck(Embedder):
    def embed(self, texts):
        print("embedding", flush=True)
        time.sleep(600)

build_index([sys.argv[1]], "code", EdgeStore(Path(sys.argv[2])), Stuck(Path(sys.argv[3])), lambda share, doing: None)
"""


def test_a_run_that_is_killed_leaves_the_versions_it_started_from(
    repository: GitRepository, follower: Follower, index: EdgeStore, folder: Path, tmp_path: Path
) -> None:
    before = follower.changed().version
    repository.commit({"new.py": function("brand_new")})
    arguments = [
        sys.executable,
        "-c",
        SCRIPT,
        str(repository.path),
        str(tmp_path / "index"),
        str(folder),
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "embedding" in iter(process.stdout.readline, "").__next__()
        os.kill(process.pid, signal.SIGKILL)
    assert index.current(NAME).version == before
    index.check(NAME)
    assert follower.changed().embedded == 1
    place = CollectionFolder(tmp_path / "index", NAME).path
    assert not list(place.glob(".building-*"))
