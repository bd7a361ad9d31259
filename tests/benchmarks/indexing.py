"""How much of the embedder's own speed indexing reaches: walk, parse, BM25, upsert and publish beside embedding.

Run: ``python -m tests.benchmarks.indexing [PATH...]`` (after ``slipstream build``; FastAPI and Starlette by default).
"""

import logging
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.chunker import chunk_file, embedded_text
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import IndexReport, build_index
from slipstream.ensemble.retrieval.walk import resolve_root, walk
from slipstream.settings import Settings
from tests.benchmarks.served import machine, spread

RUNS, BATCH = 3, 128


def token_ids(embedder: Embedder, paths: list[str]) -> list[list[int]]:
    """Of every chunk that indexing would embed, in its order."""
    files = walk([resolve_root(path) for path in paths])
    chunks = [chunk for file in files for chunk in chunk_file(file.path, file.absolute.read_bytes(), file.repo)]
    return embedder.tokenizer.encode([embedded_text(chunk) for chunk in chunks])


def ceiling(embedder: Embedder, ids: list[list[int]]) -> float:
    """Chunks per second of the session alone, fed with batches as large as indexing's."""
    rest = iter(ids)
    started = time.perf_counter()
    while batch := list(islice(rest, BATCH)):
        embedder.embed_ids(batch)
    return len(ids) / (time.perf_counter() - started)


def indexing(embedder: Embedder, paths: list[str]) -> IndexReport:
    """A whole run, from the walk to the published version."""
    with TemporaryDirectory() as folder:
        return build_index(paths, "benchmark", EdgeStore(Path(folder)), embedder, lambda share, doing: None)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    paths = sys.argv[1:] or ["pkg:fastapi", "pkg:starlette"]
    embedder = Embedder(find_bundle(Settings().bundles_dir).embedder_dir)
    ids = token_ids(embedder, paths)
    print(f"machine: {machine()}")
    print(f"{', '.join(paths)}: {len(ids)} chunks, {sum(map(len, ids)) / len(ids):.0f} tokens each")
    embedder.embed_ids(ids[:BATCH])
    alone: list[float] = []
    whole: list[float] = []
    for _ in range(RUNS):
        alone.append(ceiling(embedder, ids))
        report = indexing(embedder, paths)
        whole.append(report.chunks / report.seconds)
    ratios = [100 * indexed / embedded for indexed, embedded in zip(whole, alone, strict=True)]
    print(f"embedder alone: {spread(alone)} chunks/s")
    print(f"indexing: {spread(whole)} chunks/s, {len(ids) / sorted(whole)[RUNS // 2]:.1f} s")
    print(f"share of the embedder's own speed: {spread(ratios)} % (goal: 80)")


if __name__ == "__main__":
    main()
