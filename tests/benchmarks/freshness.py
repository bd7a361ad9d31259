"""How long a commit takes to be findable while `slipstream index --watch` follows the repository.

Run: ``python -m tests.benchmarks.freshness [CHUNKS...]`` (after ``slipstream build``; 1,500 and 20,000 by default).

A git repository is made of the sources of installed packages. Then commits add a function to one file, or to twenty,
and the clock runs from the end of ``git commit`` to the first search that finds the function: polling, reading the
commit, chunking, embedding, copying the version before, publishing, and opening the version that is new. The chunks
of the first version get random vectors of unit length, which saves hours and changes nothing after it; those of the
commits are embedded by the bundle's embedder.
"""

import logging
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import structlog
from numpy.typing import NDArray

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.contracts import SearchRequest
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.freshness.commits import Commits
from slipstream.ensemble.retrieval.freshness.watch import Watch
from slipstream.ensemble.retrieval.index import IndexReport, build_version
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.settings import Settings
from tests.benchmarks.served import machine, spread

ROUNDS = 5
COLLECTION = "benchmark"
BYTES_PER_CHUNK = 850  # of Python sources, about


class Quick(Embedder):
    """The bundle's embedder, after a first version that nobody waits for."""

    first = True

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.first:
            return super().embed(texts)
        rows = np.random.default_rng(len(texts)).standard_normal((len(texts), self.dimension), np.float32)
        return cast("NDArray[np.float32]", rows / np.linalg.norm(rows, axis=1, keepdims=True))


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "gc.auto=0")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def repository(folder: Path, chunks: int) -> list[Path]:
    """A repository with about ``chunks`` chunks; gives files to change."""
    installed = Path(sysconfig.get_path("purelib"))
    folder.mkdir()
    files, size = [], 0
    for source in sorted(installed.rglob("*.py")):
        if size >= chunks * BYTES_PER_CHUNK:
            break
        target = folder / source.relative_to(installed)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        size += source.stat().st_size
        files.append(target)
    git(folder, "init", "--quiet")
    commit(folder)
    return [file for file in files if 300 < file.stat().st_size < 20_000]


def commit(folder: Path) -> None:
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "Change")


def add(files: Sequence[Path], marker: str) -> None:
    for number, file in enumerate(files):
        with file.open("a", encoding="utf-8") as text:
            text.write(
                f"\n\ndef {marker}_{number}(value):\n    '''What {marker} says.'''\n    return value + {number}\n"
            )


def until_found(searcher: Searcher, vector: NDArray[np.float32], name: str) -> None:
    request = SearchRequest(query=name, collection=COLLECTION)
    while not any(name in hit.text for hit in searcher.search(request, vector).hits):
        time.sleep(0.01)


def follow(watch: Watch, ended: threading.Event) -> None:
    while not ended.wait(watch.step()):
        pass


def measure(chunks: int, embedder: Quick) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "repository")
        files = repository(folder, chunks)
        store = EdgeStore(Path(scratch, "index"))
        reports: list[IndexReport] = []

        def make(commits: Commits) -> IndexReport:
            return build_version(commits, COLLECTION, store, embedder, lambda share, doing: None)

        watch = Watch([str(folder)], make, reports.append)
        embedder.first = True
        watch.step()
        embedder.first = False
        print(
            f"{reports[0].files:,} files, {reports[0].chunks:,} chunks; "
            f"the first version took {reports[0].seconds:.0f} s"
        )
        ended = threading.Event()
        thread = threading.Thread(target=follow, args=(watch, ended))
        thread.start()
        searcher = Searcher(store, embedder.digest)
        vector = embedder.embed(["def marker"])[0]
        for changed in (1, 20):
            whole, indexing = [], []
            for number in range(ROUNDS):
                marker = f"zephyr{changed}x{number}"
                add(Random(number).sample(files, changed), marker)  # noqa: S311
                commit(folder)
                started = time.perf_counter()
                until_found(searcher, vector, f"{marker}_0")
                whole.append(time.perf_counter() - started)
                indexing.append(reports[-1].seconds)
            print(f"  {changed} files: findable after {spread(whole)} s, of that indexing {spread(indexing)} s")
        ended.set()
        thread.join()
        searcher.close()
        disk = sum({f.stat().st_ino: f.stat().st_blocks * 512 for f in Path(scratch, "index").rglob("*")}.values())
        print(f"  {len(store.versions(COLLECTION))} revisions kept, {disk / 1e6:.0f} MB on disk")


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    embedder = Quick(find_bundle(Settings().bundles_dir).embedder_dir)
    print(f"machine: {machine()}")
    for chunks in map(int, sys.argv[1:] or ["1500", "20000"]):
        measure(chunks, embedder)


if __name__ == "__main__":
    main()
