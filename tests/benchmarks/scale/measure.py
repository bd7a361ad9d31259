"""Measures of one collection, in a process that holds nothing else: run by `tests.benchmarks.scale`."""

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import qdrant_edge as edge
import structlog
from numpy.typing import NDArray

from slipstream.ensemble.contracts import SearchRequest
from slipstream.ensemble.retrieval.bm25 import encode_query
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge import shard as shards
from slipstream.ensemble.retrieval.hits import DENSE, REPO, SPARSE, candidates
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.vector_index import DEFAULT, Quantization, VectorIndex

COLLECTION, QUESTIONS = "scale", "questions.npz"
LIMIT, AT_ONCE, ROUNDS = 10, 8, 3
EFS = (100, 200, 400, 800)
FILTERED_BY = "mlflow"


_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)


class Asked:
    """The questions with their vectors [n, dimension], and how the engine is asked them."""

    def __init__(self, path: Path) -> None:
        kept = np.load(path)
        self.texts: list[str] = kept["texts"].tolist()
        self.vectors = kept["vectors"]
        self.russian = np.array([bool(_CYRILLIC.search(text)) for text in self.texts])
        self.terms = [encode_query(text) for text in self.texts]

    def dense(self, number: int, *, limit: int = candidates(LIMIT), repo: str | None = None, payload: bool = False,
              exact: bool = False, index: VectorIndex = DEFAULT) -> edge.QueryRequest:  # fmt: skip
        must: list[Any] = [edge.FieldCondition(REPO, match=edge.MatchValue(repo))] if repo else []
        return edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(self.vectors[number], using=DENSE),
            filter=edge.Filter(must=must),
            with_payload=payload,
            params=edge.SearchParams(exact=True) if exact else shards.search_params(index),
        )

    def sparse(self, number: int, *, payload: bool = False) -> edge.QueryRequest:
        terms = self.terms[number]
        return edge.QueryRequest(
            limit=candidates(LIMIT),
            query=edge.Query.Nearest(edge.SparseVector(terms.indices, terms.values), using=SPARSE),
            filter=edge.Filter(must=[]),
            with_payload=payload,
        )


def timed(ask: Callable[[int], object], asked: Asked, at_once: int = 1) -> str:
    """p50, p95, p99 and CPU time in ms of all questions, some rounds of them after one to warm up.

    On a machine that does other work as well, the CPU time is what can be compared.
    """
    total = len(asked.texts) * ROUNDS
    for number in range(len(asked.texts)):
        ask(number)
    numbers = count()
    taken: list[float] = []

    def work(_: int) -> None:
        while (turn := next(numbers)) < total:
            before = time.perf_counter()
            ask(turn % len(asked.texts))
            taken.append(time.perf_counter() - before)

    cpu = time.process_time()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))
    cpu = (time.process_time() - cpu) / total
    p50, p95, p99 = np.percentile(np.asarray(taken) * 1e3, (50, 95, 99))
    return f"p50 {p50:5.1f}  p95 {p95:5.1f}  p99 {p99:5.1f} ms, CPU {cpu * 1e3:4.1f} ms"


def recall(found: Sequence[Sequence[Any]], exact: Sequence[Sequence[Any]], depth: int) -> float:
    """Mean share of the exact first ``depth`` that are among those found."""
    shares = [
        len(set(one[:depth]) & set(all_[:depth])) / min(depth, len(all_))
        for one, all_ in zip(found, exact, strict=True)
        if all_
    ]
    return float(np.mean(shares))


def ids(shard: Any, asked: Asked, **how: Any) -> list[list[Any]]:
    return [[point.id for point in shard.query(asked.dense(number, **how))] for number in range(len(asked.texts))]


def of_product(home: Path, embedder_digest: str, asked: Asked) -> None:
    """What a user waits for, embedding aside."""
    store = EdgeStore(home / "index")
    path = home / "index" / COLLECTION / store.current(COLLECTION).version
    for file in (file for file in path.rglob("*") if file.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # out of the page cache
        os.close(descriptor)
    searcher = Searcher(store, embedder_digest)
    requests = [SearchRequest(query=text, collection=COLLECTION, limit=LIMIT) for text in asked.texts]

    def search(number: int) -> object:
        return searcher.search(requests[number], asked.vectors[number])

    started = time.perf_counter()
    store.reader(COLLECTION).close()
    opened = time.perf_counter()
    search(0)
    print(f"open, not in the page cache: {opened - started:.2f} s; again, with the first search: "
          f"{time.perf_counter() - opened:.2f} s")  # fmt: skip
    print(f"search, one after the other:  {timed(search, asked)}  (goal: p95 20)")
    print(f"search, {AT_ONCE} at once:            {timed(search, asked, AT_ONCE)}")
    memory = psutil.Process().memory_info()
    print(f"resident: {memory.rss / 2**20:,.0f} MiB, {memory.shared / 2**20:,.0f} MiB of it the index's files")
    size = sum(file.stat().st_size for file in (path / "shard").rglob("*") if file.is_file())
    print(f"disk: {size / 2**20:,.0f} MiB, and {vectors_size(path) / 2**20:,.0f} MiB of vectors for the next indexer")
    searcher.close()


def vectors_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def of_engine(shard: Any, asked: Asked) -> None:
    """Where the time of a search goes."""

    def both(number: int, **how: Any) -> object:
        return shard.query_batch(edge.QueryBatchRequest([asked.dense(number, **how), asked.sparse(number, **how)]))

    print(f"  dense list alone:           {timed(lambda number: shard.query(asked.dense(number)), asked)}")
    print(f"  by exact scan:              {timed(lambda n: shard.query(asked.dense(n, exact=True)), asked)}")
    print(f"  sparse list alone:          {timed(lambda number: shard.query(asked.sparse(number)), asked)}")
    print(f"  both:                       {timed(both, asked)}")
    print(f"  both with payload:          {timed(lambda number: both(number, payload=True), asked)}")


def recalls(shard: Any, asked: Asked, index: VectorIndex) -> None:
    """Of the dense list, in English and Russian and within one repository, with the time of that list alone."""
    how: dict[str, Any] = {"index": index}
    exact, within = ids(shard, asked, exact=True), ids(shard, asked, exact=True, repo=FILTERED_BY)
    found, filtered = ids(shard, asked, **how), ids(shard, asked, repo=FILTERED_BY, **how)
    by_language = [
        f"{language} {recall(select(found, rows), select(exact, rows), LIMIT):.3f}"
        for language, rows in (("English", ~asked.russian), ("Russian", asked.russian))
    ]
    print(
        f"  ef {index.ef:>4}  recall@10 {recall(found, exact, LIMIT):.3f} ({', '.join(by_language)})"
        f" @100 {recall(found, exact, 100):.3f}, within one repository @10 {recall(filtered, within, LIMIT):.3f}"
        f"  {timed(lambda number: shard.query(asked.dense(number, **how)), asked)}"
    )


def select(lists: Sequence[Sequence[Any]], rows: NDArray[np.bool_]) -> list[Sequence[Any]]:
    return [one for one, wanted in zip(lists, rows, strict=True) if wanted]


def variant(path: Path, name: str, asked: Asked) -> None:
    """The same points under another index, in a copy of the shard; asked with several ef."""
    m, ef_construct, quantization = name.split("/")
    chosen = replace(DEFAULT, m=int(m), ef_construct=int(ef_construct), quantization=Quantization(quantization))
    copy = path.with_name(f"variant-{m}-{ef_construct}-{quantization}")
    shutil.copytree(path, copy)
    shard = edge.EdgeShard.load(str(copy), shards.config(asked.vectors.shape[1], chosen))
    started, cpu = time.perf_counter(), time.process_time()
    shard.optimize()
    shard.flush()
    shard.close()
    taken, cpu = time.perf_counter() - started, time.process_time() - cpu
    size = sum(file.stat().st_size for file in copy.rglob("*") if file.is_file()) / 2**20
    print(f"m {m}, ef_construct {ef_construct}, {quantization}: {taken:.0f} s ({cpu:.0f} s of CPU), {size:,.0f} MiB")
    shard = edge.EdgeShard.load(str(copy))
    for ef in EFS:
        recalls(shard, asked, replace(chosen, ef=ef))
    shard.close()
    shutil.rmtree(copy)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    home, embedder_digest, *variants = sys.argv[1:]
    asked = Asked(Path(home) / QUESTIONS)
    print(
        f"{len(asked.texts)} questions, {ROUNDS} rounds, limit {LIMIT}, without embedding; "
        f"{os.getloadavg()[0]:.0f} processes wanted the {os.cpu_count()} cores when this began"
    )
    of_product(Path(home), embedder_digest, asked)
    version = EdgeStore(Path(home) / "index").current(COLLECTION).version
    path = Path(home) / "index" / COLLECTION / version / "shard"
    shard = edge.EdgeShard.load(str(path))
    of_engine(shard, asked)
    recalls(shard, asked, DEFAULT)
    shard.close()
    for name in variants:
        variant(path, name, asked)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
