"""What becomes of shares that go wrong: nothing is lost, written twice or left over without a word.

The workers are the real ones, in this process instead of Ray's, and what they are given is pickled as Ray does.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.distributed import index as distributed_index
from slipstream.ensemble.retrieval.distributed.cluster import Workforce
from slipstream.ensemble.retrieval.distributed.index import DistributedRun, SharesIncomplete
from slipstream.ensemble.retrieval.distributed.worker import (
    Assignment,
    KnownVectors,
    ShareIndexer,
    ShareReport,
    WorkerUnfit,
)
from slipstream.ensemble.retrieval.hits import point_id
from slipstream.ensemble.retrieval.index import IndexReport, build_index
from slipstream.ensemble.retrieval.server.writer import ServerShare, ServerWriter
from slipstream.ensemble.retrieval.store import Point
from slipstream.ensemble.retrieval.stores import open_server
from slipstream.ensemble.retrieval.walk import SourceFile
from slipstream.settings import Settings
from tests.ensemble.retrieval.fake_qdrant import fake_qdrant
from tests.ensemble.retrieval.indexing import NAME, function, write

Files = Sequence[SourceFile]


@dataclass
class Here:
    """Two workers in this process that take turns. A test may do something before a share, or change what is told."""

    before: Callable[[int, Files], Files] = lambda number, files: files
    tell: Callable[[Assignment], Assignment] = lambda assignment: assignment
    indexer: type[ShareIndexer] = ShareIndexer
    workers: int = 2
    lost: set[int] = field(default_factory=set)
    """Shares whose first worker dies when all is written."""

    def run(
        self, assignment: Assignment, known: KnownVectors, parts: Sequence[Files]
    ) -> Iterator[tuple[int, ShareReport]]:
        told = pickle.dumps((self.tell(assignment), known))
        indexers = [self.indexer(*pickle.loads(told), 1) for _ in range(self.workers)]  # noqa: S301
        for number, files in reversed(list(enumerate(parts))):  # the last to begin may be the first to end
            given = self.before(number, pickle.loads(pickle.dumps(files)))  # noqa: S301
            if number in self.lost:
                indexers[0].take(given)
                given = self.before(-number, given)
            yield number, indexers[number % self.workers].take(given)


class Case:
    """A tree of five files with three functions each, a server, and an embedder."""

    def __init__(self, url: str, embedder_dir: Path, root: Path) -> None:
        self.url, self.embedder_dir, self.root = url, embedder_dir, root
        for number in range(5):
            write(root / f"p{number}" / f"m{number}.py", *(function(f"f{number}_{part}") for part in range(3)))

    def index(self, cluster: Here | None, monkeypatch: pytest.MonkeyPatch) -> IndexReport:
        def connected(workforce: Workforce) -> AbstractContextManager[Here | None]:
            return nullcontext(cluster)

        monkeypatch.setattr(distributed_index, "connected", connected)

        def indexing(writer: ServerWriter, _: Embedder, *others: object) -> DistributedRun:
            return DistributedRun(Workforce(2), Settings(qdrant_url=self.url), self.embedder_dir, writer, *others)

        return build_index(
            [str(self.root)],
            NAME,
            open_server(self.url, None),
            Embedder(self.embedder_dir),
            lambda *_: None,
            indexing if cluster else None,
        )

    def published(self) -> dict[str, Point]:
        store = open_server(self.url, None)
        if not store.collections():
            return {}
        return {point_id(point.chunk): point for point in store.reader(NAME).scroll()}


@pytest.fixture
def case(folder: Path, tmp_path: Path) -> Iterator[Case]:
    (tmp_path / "qdrant").mkdir()
    with fake_qdrant(tmp_path / "qdrant") as (url, _):
        yield Case(url, folder, tmp_path / "tree")


def test_shares_make_what_one_process_makes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = case.index(Here(), monkeypatch)
    held, facts = case.published(), open_server(case.url, None).current(NAME).facts
    open_server(case.url, None).drop(NAME)
    alone = case.index(None, monkeypatch)
    assert held == case.published()
    assert facts == open_server(case.url, None).current(NAME).facts
    assert replace(shared, version="", seconds=0.0) == replace(alone, version="", seconds=0.0)
    assert shared.chunks == len(held) == 15


def test_shares_embed_what_is_new_and_nothing_else(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.index(Here(), monkeypatch)
    assert case.index(Here(), monkeypatch).unchanged
    write(case.root / "p4" / "m4.py", function("f4_0"), function("f4_1"), function("renamed"))
    later = case.index(Here(), monkeypatch)
    assert (later.embedded, later.reused, later.removed, later.chunks) == (1, 14, 1, 15)


def test_a_worker_that_drops_chunks_publishes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = ServerShare.upsert, list[int]()

    def forgetful(self: ServerShare, points: Sequence[Point]) -> None:
        calls.append(len(points))
        real(self, points[1:] if len(calls) == 3 else points)

    monkeypatch.setattr(ServerShare, "upsert", forgetful)
    with pytest.raises(SharesIncomplete, match="holds 14 chunks where the workers made 15"):
        case.index(Here(), monkeypatch)
    assert case.published() == {}


def test_a_file_that_changed_when_its_share_was_done_again_leaves_nothing_of_what_it_was(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rewrite(number: int, files: Files) -> Files:
        if number < 0:
            write(files[0].absolute, function("rewritten"))
        return files

    with pytest.raises(SharesIncomplete, match="holds 16 chunks where the workers made 13") as caught:
        case.index(Here(before=rewrite, lost={3}), monkeypatch)
    assert "Run this again" in caught.value.remedy
    assert case.published() == {}
    assert case.index(Here(), monkeypatch).chunks == 13


def test_a_share_that_is_done_again_is_there_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert case.index(Here(lost={1, 4}), monkeypatch).chunks == len(case.published()) == 15


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_gone_when_its_share_is_done_is_counted(what: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share may be one file, so that all of it is gone."""

    def remove(number: int, files: Files) -> Files:
        if number == 3:
            files[0].absolute.unlink()
            if what == "folder":
                files[0].absolute.parent.rmdir()
        return files

    report = case.index(Here(before=remove), monkeypatch)
    assert (report.files, report.chunks, report.skipped) == (4, 12, {"unreadable": 1})
    assert len(case.published()) == 12


def test_a_worker_that_sees_only_some_of_the_sources_ends_the_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each share has files that it sees and files that it does not."""

    class Half(ShareIndexer):
        def take(self, files: Files) -> ShareReport:
            return replace(super().take(files[:1]), unseen=[file.absolute.parent for file in files[1:]], host="far")

    monkeypatch.setattr(distributed_index, "_SHARES_PER_WORKER", 2)
    with pytest.raises(WorkerUnfit, match=r"far does not see .*p\d") as caught:
        case.index(Here(indexer=Half), monkeypatch)
    assert "same path on every machine" in caught.value.remedy
    assert case.published() == {}


def test_a_worker_whose_disk_is_not_mounted_ends_the_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is there, and it is empty."""

    class Unmounted(ShareIndexer):
        def take(self, files: Files) -> ShareReport:
            aside = [file.absolute.replace(file.absolute.with_suffix(".aside")) for file in files]
            report = super().take(files)
            for file, place in zip(files, aside, strict=True):
                place.replace(file.absolute)
            return report

    with pytest.raises(WorkerUnfit, match=r"does not see .*m\d\.py"):
        case.index(Here(indexer=Unmounted), monkeypatch)
    assert case.published() == {}


def test_another_embedder_on_a_worker_ends_the_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(assignment: Assignment) -> Assignment:
        facts = assignment.embedder["embedder.json"].replace(b'"digest": "', b'"digest": "0')
        return replace(assignment, embedder={**assignment.embedder, "embedder.json": facts})

    with pytest.raises(WorkerUnfit, match="the embedder 0"):
        case.index(Here(tell=other), monkeypatch)
    assert case.published() == {}
