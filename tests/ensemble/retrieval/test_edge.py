"""What only a store on this disk can go through: other processes, killed writers, damaged files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge.writer import EdgeWriter
from slipstream.ensemble.retrieval.errors import CollectionNotFound, IndexDamaged, StoreUnavailable
from slipstream.ensemble.retrieval.vector_index import DEFAULT
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, paths, point, publish, search

ROOT = Path(__file__).parents[3]


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(index_dir: Path) -> EdgeStore:
    return EdgeStore(index_dir)


@contextmanager
def other_process(index_dir: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that ran ``code`` (with ``store``), said so, and waits to be killed."""
    script = (
        "import sys; from pathlib import Path\n"
        "from slipstream.ensemble.retrieval.edge import EdgeStore\n"
        "from tests.ensemble.retrieval.corpus import *\n"
        f"store = EdgeStore(Path({str(index_dir)!r}))\n{code}\n"
        "print('READY', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any("READY" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


def versions(index_dir: Path) -> set[str]:
    return {path.name for path in (index_dir / "code").iterdir() if path.is_dir()}


def test_a_version_that_another_process_reads_cannot_be_opened(store: EdgeStore, index_dir: Path) -> None:
    published = publish(store, [point("a.py")])
    with other_process(index_dir, "reader = store.reader('code')") as holder:
        with pytest.raises(StoreUnavailable, match="Another process") as caught:
            store.reader("code")
        assert "slipstream serve" in caught.value.remedy
        assert store.current("code") == published
        store.check("code")
        assert len(store.vectors("code")) == 1
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "def")) == ["a.py"]


def test_the_next_version_is_built_while_a_server_reads_and_its_own_stays(store: EdgeStore, index_dir: Path) -> None:
    held = publish(store, [point("held.py")]).version
    ask = "reader = store.reader('code')"
    with other_process(index_dir, ask):
        later = [publish(store, [point(f"{i}.py")]).version for i in range(3)]
        assert versions(index_dir) == {held, later[1], later[2]}
        with closing(store.reader("code")) as reader:
            assert paths(search(reader, "def")) == ["2.py"]
    last = publish(store, [point("last.py")]).version
    assert versions(index_dir) == {later[2], last}


def test_a_version_that_this_process_reads_stays(store: EdgeStore, index_dir: Path) -> None:
    publish(store, [point("held.py")])
    with closing(store.reader("code")) as reader:
        for i in range(3):
            publish(store, [point(f"{i}.py")])
        assert reader.info.version in versions(index_dir)
        assert paths(search(reader, "def")) == ["held.py"]
        assert [one.chunk.path for one in reader.scroll()] == ["held.py"]


def test_two_processes_cannot_index_at_once(store: EdgeStore, index_dir: Path) -> None:
    with other_process(index_dir, "writer = store.writer('code', EMBEDDER, DIMENSION)"):
        with pytest.raises(StoreUnavailable, match="Another process is indexing"):
            store.writer("code", EMBEDDER, DIMENSION)
        with pytest.raises(StoreUnavailable, match="Another process is indexing"):
            store.drop("code")
        assert publish(store, [point("a.py")], "other").chunks == 1


def test_a_killed_writer_leaves_nothing_that_matters(store: EdgeStore, index_dir: Path) -> None:
    first = publish(store, [point("a.py")])
    code = "writer = store.writer('code', EMBEDDER, DIMENSION)\nwriter.upsert([point(f'{i}.py') for i in range(500)])"
    with other_process(index_dir, code) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert any((index_dir / "code").glob(".building-*"))
    assert store.current("code") == first
    assert store.collections() == [first]
    second = publish(store, [point("b.py")])
    assert versions(index_dir) == {first.version, second.version}


def test_a_discarded_version_leaves_nothing_on_the_disk(store: EdgeStore, index_dir: Path) -> None:
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("a.py")])
    assert [path.name for path in (index_dir / "code").iterdir()] == ["WRITER.lock"]


def test_a_publisher_killed_before_the_switch_leaves_the_old_version(store: EdgeStore, index_dir: Path) -> None:
    first = publish(store, [point("a.py")])
    pointer = (index_dir / "code" / "CURRENT").read_text()
    second = publish(store, [point("b.py")])
    (index_dir / "code" / "CURRENT").write_text(pointer)  # as if the last step had not happened
    assert store.current("code") == first
    third = publish(store, [point("c.py")])
    assert versions(index_dir) == {first.version, third.version}
    assert second.version not in versions(index_dir)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))


LISTS = {"checksums": [1], "vector_checksums": [1]}
DAMAGE: dict[str, Callable[[Path], None]] = {
    "pointer empty": lambda folder: os.truncate(folder.parent / "CURRENT", 0),
    "pointer cut": lambda folder: os.truncate(folder.parent / "CURRENT", 9),
    "pointer binary": lambda folder: folder.parent.joinpath("CURRENT").write_bytes(b"\xff\xfe" * 9) and None,
    "pointer leads out": lambda folder: folder.parent.joinpath("CURRENT").write_text("../other\n") and None,
    "facts missing": lambda folder: (folder / "version.json").unlink(),
    "facts cut": lambda folder: cut(folder / "version.json"),
    "facts a list": lambda folder: (folder / "version.json").write_text("[]") and None,
    "facts of another": lambda folder: (
        (folder / "version.json").write_text(
            (folder / "version.json").read_text().replace(folder.name, "20200101T000000-00000000")
        )
        and None
    ),
    "checksums a list": lambda folder: (
        (folder / "version.json").write_text(json.dumps(json.loads((folder / "version.json").read_text()) | LISTS))
        and None
    ),
    "version gone": lambda folder: folder.rename(folder.parent / ".gone") and None,
    "lock missing": lambda folder: (folder / "READER.lock").unlink(),
    "shard gone": lambda folder: (folder / "shard").rename(folder / "gone") and None,
    "config cut": lambda folder: cut(folder / "shard" / "edge_config.json"),
    "ids missing": lambda folder: next(folder.rglob("mutable_id_tracker.mappings")).unlink(),
    "ids cut": lambda folder: cut(next(folder.rglob("mutable_id_tracker.mappings"))),
    "payload flipped": lambda folder: flip(next(folder.rglob("payload_storage/page_0.dat"))),
    "vectors flipped": lambda folder: flip(next(folder.rglob("chunk_0.mmap"))),
    "a file too many": lambda folder: (folder / "shard" / "extra").write_text("") and None,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_indexing_repairs_it(
    store: EdgeStore, index_dir: Path, damage: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    version = publish(store, [point("a.py"), point("b.py")]).version
    publish(store, [point("a.py")], "whole")
    damage(index_dir / "code" / version)
    with pytest.raises(IndexDamaged) as caught:
        store.reader("code")
    assert "slipstream index" in caught.value.remedy
    if "lock" not in request.node.name:
        with pytest.raises(IndexDamaged):
            store.check("code")
    store.check("whole")
    assert "whole" in {info.collection for info in store.collections()}
    publish(store, [point("c.py")])
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "def")) == ["c.py"]


@pytest.mark.parametrize("name", ["vectors/*.digests", "vectors/*.f32", "files.txt"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_damaged_vectors_are_not_reused(
    store: EdgeStore, index_dir: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with store.writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("a.py"), point("b.py")])
        version = writer.publish({("shop", "a.py"): "1", ("shop", "b.py"): "2"}).version
    damage(next((index_dir / "code" / version).glob(name)))
    assert store.vectors("code") == {}
    store.check("code")
    with closing(store.reader("code")) as reader:  # what is searched is in the shard
        assert len(search(reader, "def")) == 2


def test_vectors_of_a_version_without_their_checksums_are_not_reused(store: EdgeStore, index_dir: Path) -> None:
    facts = index_dir / "code" / publish(store, [point("a.py")]).version / "version.json"
    known = json.loads(facts.read_text())
    del known["indexer_checksums"]
    facts.write_text(json.dumps(known))
    assert store.vectors("code") == {}
    store.check("code")
    with closing(store.reader("code")) as reader:
        assert paths(search(reader, "def")) == ["a.py"]


def test_an_index_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = EdgeStore(tmp_path / "file")
    assert store.collections() == []
    with pytest.raises(CollectionNotFound):
        store.current("code")
    with pytest.raises(StoreUnavailable, match="cannot be written") as caught:
        store.writer("code", EMBEDDER, DIMENSION)
    assert str(tmp_path) in caught.value.remedy


def test_a_full_disk_is_told_and_the_same_process_can_index_again(store: EdgeStore, index_dir: Path) -> None:
    def fill(writer: EdgeWriter) -> None:
        with Path("/dev/full").open("wb") as full:
            for file in (writer._vectors._digests, writer._vectors._rows):
                os.dup2(full.fileno(), file.fileno())
        writer.upsert([point("a.py")])
        writer.publish()

    with store.writer("code", EMBEDDER, DIMENSION) as writer, pytest.raises(StoreUnavailable, match="No space left"):
        fill(writer)
    assert {path.name for path in (index_dir / "code").iterdir()} == {"WRITER.lock"}
    publish(store, [point("a.py")])


def test_strangers_in_the_index_folder_are_no_collections(store: EdgeStore, index_dir: Path) -> None:
    publish(store, [point("a.py")])
    (index_dir / "notes.txt").write_text("mine")
    (index_dir / "empty").mkdir()
    (index_dir / "a b").mkdir()
    (index_dir / "a b" / "CURRENT").write_text("x")
    assert [info.collection for info in store.collections()] == ["code"]


def test_a_graph_finds_three_among_thousands_too(
    store: EdgeStore, index_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.ensemble.retrieval.edge.shard.DEFAULT", replace(DEFAULT, scanned_up_to_kb=16))
    crowd = [point(f"crowd/{i}.py", f"wanted {i}", word=f"near{i}") for i in range(2000)]
    few = [point(f"few/{i}.py", f"wanted too {i}", word=f"far{i}") for i in range(3)]
    version = publish(store, [*crowd, *few]).version
    assert any((index_dir / "code" / version).rglob("graph.bin*")) or any(
        (index_dir / "code" / version).rglob("links*")
    )
    from slipstream.ensemble.contracts import SearchFilter

    with closing(store.reader("code")) as reader:
        hits = search(reader, "?", word="near7", limit=10, where=SearchFilter(path_prefix="few"))
        assert set(paths(hits)) == {"few/0.py", "few/1.py", "few/2.py"}
        assert paths(search(reader, "?", word="near7", limit=1)) == ["crowd/7.py"]
