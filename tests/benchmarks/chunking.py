"""What the way of cutting files, and what the embedder reads of a chunk, bring to the search.

Every way is measured alone: the whole of tests/retrieval cut anew, embedded by the active bundle's embedder, and
ranked as the product ranks, exactly and in memory (cosine + weighted BM25). BM25's average length is that of the
chunks compared, so that none is judged by another's. First the whole ways, then the cuts alone: of windows nobody
knows a name, so the product's cuts are there without names too. Nothing is drawn by chance but the bootstrap's samples,
with a fixed seed. Vectors are kept, so a second run takes a minute or two; the first embeds 80,000
chunks. ``--without celery,zod,tornado,scrapy,rxjs`` leaves a third of the chunks and two thirds of the queries.
``SLIPSTREAM_HOME=... python -m tests.benchmarks.chunking [--without PACKAGE,...] [WAY ...]``
"""

import gc
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

from slipstream.engines.protocols import Progress
from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.retrieval import bm25, chunker
from slipstream.ensemble.retrieval.evaluation.collection import Collection
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.rankers import Bench
from slipstream.ensemble.retrieval.evaluation.steps import STEPS
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import resolve_root, walk
from slipstream.ensemble.retrieval.words import stems
from slipstream.settings import Settings
from tests.benchmarks import cuts
from tests.benchmarks.compared import Outcome, outcome, show, without
from tests.benchmarks.late_interaction import collected
from tests.benchmarks.served import machine

BUDGET = chunker.BUDGET
PRODUCT, NAMELESS = "product", "nameless"


@dataclass(frozen=True, slots=True)
class Way:
    """``budget`` is what the product's cutter works with."""

    title: str
    cut: cuts.Cut
    budget: int = BUDGET


WHOLE = {
    PRODUCT: Way("the product's way", cuts.product),
    "widened": Way("said to reach 12 lines further", cuts.widened(12)),
    "half": Way("half the budget", cuts.product, BUDGET // 2),
    "double": Way("double the budget", cuts.product, BUDGET * 2),
    "unread": Way("embedder: no class and name", cuts.name_unread),
    "class": Way("embedder: + the class's first line", cuts.with_class),
    "imports": Way("embedder: + imports it uses", cuts.with_imports),
    "path": Way("embedder: + path", cuts.with_path),
}
CUTS = {
    NAMELESS: Way("the product's cuts, no names", cuts.nameless),
    "merged": Way("syntax, neighbours merged (cAST)", cuts.syntax(BUDGET, merged=True)),
    "split": Way("syntax, nothing merged", cuts.syntax(BUDGET, merged=False)),
    "lines": Way("40 lines", cuts.windows(40, 40)),
    "overlap": Way("40 lines, 20 of them shared", cuts.windows(40, 20)),
}


def measured(way: Way, files: Sequence[tuple[str, bytes, str]], bench: Bench, queries: Sequence[Query]) -> Outcome:
    with patch.object(chunker, "BUDGET", way.budget):
        pairs = [pair for file in files for pair in way.cut(*file)]
    chunks, texts = tuple(chunk for chunk, _ in pairs), dict(pairs)
    own = replace(bench, collection=replace(bench.collection, chunks=chunks), read=texts.__getitem__)
    average = bm25.AVERAGE_TERMS * terms(chunks) / terms(bench.collection.chunks)
    with patch.object(bm25, "AVERAGE_TERMS", average):
        return outcome(way.title, STEPS["adapted"](own), chunks, queries)


def terms(chunks: Sequence[Chunk]) -> float:
    """What BM25 counts in a chunk, in the mean."""
    return sum(
        len(stems(chunk.text)) + bm25.SYMBOL * len(stems(chunk.symbol)) + bm25.PATH * len(stems(chunk.path))
        for chunk in chunks
    ) / len(chunks)


def told(name: str) -> Progress:
    """To stderr, at most every ten seconds."""
    last = [perf_counter()]

    def tell(share: float, doing: str) -> None:
        if perf_counter() - last[0] > 10:
            last[0] = perf_counter()
            print(f"{name}: {doing}", file=sys.stderr, flush=True)

    return tell


def read_files(collection: Collection) -> list[tuple[str, bytes, str]]:
    """Path, bytes and repository of each, in the order in which an index reads them."""
    found = walk([resolve_root(str(root)) for root in collection.roots])
    return [(file.path, file.absolute.read_bytes(), file.repo) for file in found]


def main() -> None:
    known = [*WHOLE, *CUTS]
    parser = ArgumentParser()
    parser.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(known))
    parser.add_argument("--without", default="", metavar="PACKAGE,...")
    options = parser.parse_args()
    if unknown := set(options.ways) - set(known):
        parser.error(f"no way is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    settings, left_out = Settings(), options.without.split(",")
    kept = settings.cache_dir / "evaluation"
    embedder = CachedEmbedder(find_bundle(settings.bundles_dir, None).embedder_dir, kept)
    with tempfile.TemporaryDirectory() as place:
        everything = collected(settings, Path(place))
        files = [file for file in read_files(everything) if file[0].partition("/")[0] not in left_out]
    collection = without(everything, left_out)
    print(f"{machine()}; MRR@10, and its difference to the first line's with its 95% interval")
    for ways in (WHOLE, CUTS):
        outcomes = []
        for name in (name for name in ways if name in (options.ways or known)):
            bench = Bench(collection, embedder, embedder, kept, told(name))
            outcomes.append(measured(ways[name], files, bench, collection.queries))
            gc.collect()  # a bench and its laboratory hold each other, and the vectors
        if outcomes:
            show(outcomes, collection.queries)


if __name__ == "__main__":
    main()
