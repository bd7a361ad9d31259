"""Indexing beside readers and other runs, and runs that do not end well."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.chunk_process import ChunkProcess
from slipstream.ensemble.retrieval.chunker import Cut
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.index import build_index
from tests.ensemble.retrieval.indexing import NAME, Recorder, find, function, run, versions, write


@pytest.fixture
def store(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path / "index")


def test_a_version_that_is_being_read_is_replaced_without_disturbing_the_reader(
    store: EdgeStore, embedder: Recorder, tree: Path
) -> None:
    before = run(tree, store=store, embedder=embedder)
    reader = store.reader(NAME)
    write(tree / "new.py", function("brand_new"))
    embedder.texts.clear()
    after = run(tree, store=store, embedder=embedder)
    assert (after.embedded, after.reused) == (1, 5)
    assert reader.info.version == before.version
    assert {point.chunk.path for point in reader.scroll()} == {"cart.py", "deep/price.py", "main.go"}
    reader.close()
    assert find(store, embedder, "brand_new")[0].path == "new.py"


def test_a_second_run_at_the_same_time_is_refused(store: EdgeStore, folder: Path, tree: Path) -> None:
    class Impatient(Recorder):
        def meanwhile(self) -> None:
            with pytest.raises(StoreUnavailable, match="Another process is indexing"):
                run(tree, store=store, embedder=Recorder(folder))

    assert run(tree, store=store, embedder=Impatient(folder)).chunks == 5


# Runs that do not end well


def test_a_store_that_does_not_answer_ends_the_run(
    store: EdgeStore, embedder: Recorder, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take it for empty would embed everything again."""
    run(tree, store=store, embedder=embedder)
    write(tree / "new.py", function("brand_new"))
    embedder.texts.clear()

    def vectors(collection: str) -> None:
        raise StoreUnavailable("The server does not answer", "Start it.")

    monkeypatch.setattr(store, "vectors", vectors)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        run(tree, store=store, embedder=embedder)
    assert embedder.texts == []


SCRIPT = """
import os, resource, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import build_index

class Slow(Embedder):
    def embed(self, texts):
        print("embedding", flush=True)
        {meanwhile}
        return super().embed(texts)

build_index([sys.argv[1]], "code", EdgeStore(Path(sys.argv[2])), Slow(Path(sys.argv[3])), lambda share, doing: None)
"""


def start(meanwhile: str, tree: Path, index: Path, folder: Path) -> subprocess.Popen[str]:
    script = textwrap.dedent(SCRIPT).format(meanwhile=meanwhile)
    command = [sys.executable, "-c", script, str(tree), str(index), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_leaves_the_version_that_was_there(
    ending: signal.Signals, store: EdgeStore, embedder: Recorder, folder: Path, tree: Path, tmp_path: Path
) -> None:
    before = run(tree, store=store, embedder=embedder)
    write(tree / "new.py", function("brand_new"))
    process = start("time.sleep(60)", tree, tmp_path / "index", folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "embedding\n"
    process.send_signal(ending)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert store.current(NAME).version == before.version
    assert {hit.path for hit in find(store, embedder, "brand_new")} <= {"cart.py", "deep/price.py", "main.go"}
    after = run(tree, store=store, embedder=embedder)
    assert (after.embedded, after.reused) == (1, 5)
    assert versions(store, tmp_path) == {before.version, after.version, "CURRENT"}


def test_a_run_that_is_ended_begins_no_other_file(
    store: EdgeStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take its grammar seconds, and a batch is many of them."""
    for number in range(600):
        write(tmp_path / "many" / f"m{number}.py", f"VALUE = {number}\n")
    begun: list[str] = []
    real = ChunkProcess.cut
    monkeypatch.setattr(ChunkProcess, "cut", lambda it, path, *rest: (begun.append(path), real(it, path, *rest))[1])

    class Interrupted(Recorder):
        def meanwhile(self) -> None:
            monkeypatch.setattr(ChunkProcess, "cut", slow)
            raise KeyboardInterrupt

    def slow(process: ChunkProcess, path: str, data: bytes, repo: str) -> Cut:
        begun.append(path)
        time.sleep(0.05)
        return real(process, path, data, repo)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "many", store=store, embedder=Interrupted(folder))
    assert 128 <= len(begun) < 256


def test_a_full_disk_is_told_and_leaves_the_version_that_was_there(
    store: EdgeStore, embedder: Recorder, folder: Path, tree: Path, tmp_path: Path
) -> None:
    before = run(tree, store=store, embedder=embedder)
    write(tree / "new.py", function("brand_new"))
    # The nearest to a full disk that needs no disk: no file may grow any more.
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    process = start(full, tree, tmp_path / "index", folder)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "StoreUnavailable: The index of 'code' cannot be written" in errors
    assert store.current(NAME).version == before.version
    assert run(tree, store=store, embedder=embedder).embedded == 1


@pytest.mark.parametrize(("part", "embedded"), [("version.json", 5), ("shard/**/*", 0)])
def test_a_damaged_version_is_replaced_though_no_source_changed(
    part: str, embedded: int, store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path
) -> None:
    """Vectors lie in files of their own, and are reused where those are whole and it is known what made them."""
    before = run(tree, store=store, embedder=embedder)
    files = (tmp_path / "index" / NAME / before.version).glob(part)
    damaged = max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    after = run(tree, store=store, embedder=embedder)
    assert (after.unchanged, after.embedded, after.reused) == (False, embedded, 5 - embedded)
    assert find(store, embedder, "add_item")


def test_damaged_vectors_of_the_version_before_cost_time_and_nothing_else(
    store: EdgeStore, embedder: Recorder, tree: Path, tmp_path: Path
) -> None:
    before = run(tree, store=store, embedder=embedder)
    digests = tmp_path / "index" / NAME / before.version / "files.txt"
    digests.write_bytes(digests.read_bytes()[:100])
    write(tree / "new.py", function("brand_new"))
    after = run(tree, store=store, embedder=embedder)
    assert (after.chunks, after.embedded, after.reused) == (6, 6, 0)
    assert find(store, embedder, "brand_new")[0].path == "new.py"


# What the caller sees


def test_progress_grows_to_one(store: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "many" / f"m{number}.py", *(function(f"f{number}_{each}") for each in range(130)))
    shares: list[float] = []
    build_index([str(tmp_path / "many")], NAME, store, embedder, lambda share, doing: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert any(0.2 < share < 0.8 for share in shares)


def test_parsing_goes_on_while_the_embedder_works(
    store: EdgeStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch is ready before the first is embedded, and the first is written while the second is."""
    for number in range(3):
        write(tmp_path / "many" / f"m{number}.py", *(function(f"f{number}_{each}") for each in range(130)))
    parsed: list[str] = []
    real = ChunkProcess.cut
    monkeypatch.setattr(ChunkProcess, "cut", lambda it, path, *rest: (parsed.append(path), real(it, path, *rest))[1])
    seen: list[int] = []

    class Patient(Recorder):
        def meanwhile(self) -> None:
            deadline = time.monotonic() + 10
            while len(parsed) < min(3, len(seen) + 2) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(len(parsed))

    run(tmp_path / "many", store=store, embedder=Patient(folder))
    assert seen == [2, 3, 3, 3]  # three batches are full, the last one holds the rest
