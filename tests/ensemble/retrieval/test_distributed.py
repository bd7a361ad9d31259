"""Several workers make the collection that one process makes, or none; a fake Qdrant server takes their points."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slipstream.cli import main
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.distributed import cluster as clusters
from slipstream.ensemble.retrieval.distributed.cluster import (
    ClusterUnavailable,
    RayMissing,
    WorkerLost,
    Workforce,
    connected,
)
from slipstream.ensemble.retrieval.distributed.index import ServerNeeded, distributed, shares
from slipstream.ensemble.retrieval.distributed.worker import Assignment, KnownVectors, ShareIndexer, WorkerUnfit
from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.hits import point_id
from slipstream.ensemble.retrieval.index import IndexReport, build_index
from slipstream.ensemble.retrieval.sources import shaping_code
from slipstream.ensemble.retrieval.store import Point
from slipstream.ensemble.retrieval.stores import open_server
from slipstream.ensemble.retrieval.walk import SourceFile
from slipstream.settings import Settings
from tests.ensemble.retrieval.fake_qdrant import FakeQdrant, fake_qdrant
from tests.ensemble.retrieval.indexing import NAME, function, write


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, FakeQdrant]]:
    folder = tmp_path / "qdrant"
    folder.mkdir()
    with fake_qdrant(folder) as both:
        yield both


@pytest.fixture
def forest(tmp_path: Path) -> list[Path]:
    """Two source trees with twelve files, one of them in Latin-1, one a copy of another."""
    roots = [tmp_path / "shop", tmp_path / "bank"]
    for number in range(6):
        write(roots[0] / "deep" / f"cart_{number}.py", function(f"add_{number}"), function(f"remove_{number}"))
    for number in range(4):
        write(roots[1] / f"account_{number}.py", *(function(f"transfer_{number}_{part}") for part in range(number + 1)))
    (roots[1] / "latin.py").write_bytes(function("größe").encode("latin-1"))
    write(roots[1] / "copy.py", (roots[1] / "account_0.py").read_text())
    return roots


def index(
    roots: list[Path], url: str, folder: Path, workforce: Workforce | None = None, name: str = NAME
) -> IndexReport:
    indexing = distributed(workforce, Settings(qdrant_url=url), folder) if workforce else None
    store = open_server(url, None)
    return build_index([str(root) for root in roots], name, store, Embedder(folder), lambda *_: None, indexing)


def content(url: str, name: str) -> Mapping[str, Point]:
    """Every point of a collection by its id."""
    reader = open_server(url, None).reader(name)
    return {point_id(point.chunk): point for point in reader.scroll(with_vectors=True)}


def published(url: str) -> list[str]:
    return [info.collection for info in open_server(url, None).collections()]


def assignment(url: str, folder: Path, **other: Any) -> Assignment:
    store = open_server(url, None)
    embedder = Embedder(folder)
    writer = store.writer(NAME, embedder.digest, embedder.dimension)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return replace(Assignment(url, None, writer.info, files, shaping_code()), **other)


NOTHING_KNOWN = KnownVectors.of({})

_HEAD = """
import os, sys, ray
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
print(ray.init("local", num_cpus=2, _node_ip_address="127.0.0.1", **quiet).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with two cores, which ends with this module."""
    with subprocess.Popen(
        [sys.executable, "-c", _HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as head:
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.communicate(timeout=60)


# What cannot be done is said before anything is started.


def test_the_embedded_index_takes_no_workers(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerNeeded) as caught:
        distributed(Workforce(2), Settings(home=tmp_path), folder)
    assert "QDRANT_URL" in caught.value.remedy


def test_without_ray_the_command_that_installs_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissing) as caught:
        distributed(Workforce(2), Settings(qdrant_url="http://127.0.0.1:1"), folder)
    assert "slipstream[distributed]" in caught.value.remedy


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--workers", "-1"], ["--workers", "two"]])
def test_a_number_of_workers_that_is_none_is_refused(arguments: list[str], tree: Path) -> None:
    assert CliRunner().invoke(main, ["index", str(tree), *arguments]).exit_code == 2


# How the files are shared out.


def files_of(*sizes: int) -> list[SourceFile]:
    return [SourceFile(f"{number}.py", Path(f"/{number}.py"), "r", size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((), 4, []),
        ((0, 0, 0), 2, [2, 1]),
        ((5,), 4, [1]),
        ((1, 1, 1, 1), 2, [2, 2]),
        ((1000, 1, 1, 1, 1), 3, [1, 1, 3]),
        ((1, 1, 1, 1, 1000), 3, [5]),
        (tuple([10] * 100), 8, [13, 12, 13, 12, 13, 12, 13, 12]),
    ],
)
def test_shares_keep_the_order_and_balance_the_bytes(sizes: tuple[int, ...], count: int, expected: list[int]) -> None:
    files = files_of(*sizes)
    parts = shares(files, count)
    assert [len(part) for part in parts] == expected
    assert [file for part in parts for file in part] == files


# One worker, without Ray.


def test_a_worker_with_another_chunker_is_refused(server: tuple[str, FakeQdrant], folder: Path) -> None:
    worker = ShareIndexer(assignment(server[0], folder, shaping_code="older"), NOTHING_KNOWN, 1)
    with pytest.raises(WorkerUnfit, match="another chunker"):
        worker.take([SourceFile("here.py", folder, "r", 1)])


def test_a_share_that_is_done_twice_is_there_once(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path]
) -> None:
    path = forest[0] / "deep" / "cart_0.py"
    given = assignment(server[0], folder)
    worker = ShareIndexer(given, NOTHING_KNOWN, 1)
    reports = [worker.take([SourceFile("cart_0.py", path, "shop", 1)]) for _ in range(2)]
    assert reports[0] == reports[1]
    (collection,) = server[1].collections.values()
    assert collection.info()["points_count"] == len(reports[0].digests) == 2


# Two workers, in a Ray cluster.


@pytest.mark.integration
def test_without_an_address_the_workers_run_on_this_machine(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path]
) -> None:
    assert index(forest[1:], server[0], folder, Workforce(2)).chunks == len(content(server[0], NAME)) > 5


@pytest.mark.integration
def test_two_workers_make_the_collection_that_one_process_makes(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path], cluster: str
) -> None:
    url = server[0]
    alone = index(forest, url, folder, name="alone")
    shared = index(forest, url, folder, Workforce(2, cluster), name="shared")
    same = {"collection": "", "version": "", "seconds": 0.0}
    assert replace(shared, **same) == replace(alone, **same)
    one, other = content(url, "alone"), content(url, "shared")
    assert one.keys() == other.keys()
    assert len(one) == alone.chunks > 20
    for number, point in one.items():
        assert other[number].chunk == point.chunk
        assert other[number].sparse == point.sparse
        np.testing.assert_array_equal(np.asarray(other[number].dense), np.asarray(point.dense))
    facts = [open_server(url, None).current(name).facts for name in ("alone", "shared")]
    assert facts[0] == facts[1]

    again = index(forest, url, folder, Workforce(2, cluster), name="shared")
    assert again.unchanged
    write(forest[0] / "deep" / "cart_0.py", function("add_0"), function("renamed"))
    later = index(forest, url, folder, Workforce(2, cluster), name="shared")
    assert (later.embedded, later.reused, later.removed) == (1, alone.chunks - 1, 1)


@pytest.mark.integration
def test_what_fails_in_a_worker_ends_the_run_and_publishes_nothing(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path], cluster: str
) -> None:
    url, qdrant = server
    taken: list[str] = []

    def full_from_the_third_on(name: str) -> None:
        taken.append(name)
        if len(taken) > 2:
            raise OSError("No space left on device")

    qdrant.before_upsert = full_from_the_third_on
    with pytest.raises(StoreUnavailable, match="No space left"):
        index(forest, url, folder, Workforce(2, cluster))
    assert len(taken) > 2
    assert published(url) == []
    assert not qdrant.collections


@pytest.mark.integration
def test_a_share_whose_worker_died_is_done_by_another_one(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path], cluster: str
) -> None:
    url, qdrant = server
    killed: list[int] = []

    def kill_the_first_writer(name: str) -> None:
        if not killed:
            killed.append(_worker_process())
            os.kill(killed[0], 9)

    qdrant.before_upsert = kill_the_first_writer
    report = index(forest, url, folder, Workforce(2, cluster))
    assert killed
    assert report.chunks == len(content(url, NAME)) > 20
    index(forest, url, folder, name="alone")
    assert content(url, NAME).keys() == content(url, "alone").keys()


@pytest.mark.integration
def test_a_share_that_kills_every_worker_ends_the_run_and_publishes_nothing(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path], cluster: str
) -> None:
    url, qdrant = server
    qdrant.before_upsert = lambda name: os.kill(_worker_process(), 9)
    with pytest.raises(WorkerLost):
        index(forest, url, folder, Workforce(1, cluster))
    assert published(url) == []


_CONNECT = """
import sys
from slipstream.ensemble.retrieval.distributed.cluster import Workforce, connected
with connected(Workforce(2, sys.argv[1])) as cluster:
    print(cluster.workers)
"""


@pytest.mark.integration
def test_a_process_that_started_no_cluster_shows_the_token_of_this_machine(cluster: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    command = [sys.executable, "-c", _CONNECT, cluster]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "2", done.stderr[-1000:]


def test_a_cluster_that_wants_a_token_is_told_from_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Guarded:
        def init(self, *arguments: object, **options: object) -> None:
            try:
                raise PermissionError("InvalidAuthToken: Authentication token is missing or incorrect")
            except PermissionError as error:
                raise ConnectionError("Failed to connect to Ray cluster") from error

    monkeypatch.setattr(clusters, "installed_ray", Guarded)
    with pytest.raises(ClusterUnavailable, match="does not let this process in") as refused, connected(Workforce(2)):
        pass
    assert "auth_token" in refused.value.remedy


def test_a_cluster_that_is_not_there_is_named(
    server: tuple[str, FakeQdrant], folder: Path, forest: list[Path], unused_port: int
) -> None:
    with pytest.raises(ClusterUnavailable, match=f"127.0.0.1:{unused_port}"):
        index(forest, server[0], folder, Workforce(2, f"127.0.0.1:{unused_port}"))
    assert published(server[0]) == []


def _worker_process() -> int:
    """The process of a Ray worker that is indexing now."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        if any(part.startswith("ray::ShareIndexer") for part in process.cmdline()):
            return process.pid
    raise AssertionError("no worker is running")
