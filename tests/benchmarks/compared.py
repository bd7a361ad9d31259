"""What a way of searching finds, beside what the product finds: the columns that `chunking` and `embedders` print.

MRR@10 of each group of queries, and its difference to the first line's with the 95% bootstrap interval. A result is
right when its lines overlap the answer's in the right file, so larger chunks are right more often. That is why the mean
lines of a chunk are told, and for the English queries ``read``: the share of them whose right chunk ends within the
first 200 lines that one would read, which favours nobody.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.evaluation.collection import Collection
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.ranker import Ranker
from slipstream.ensemble.retrieval.evaluation.scores import (
    Floats,
    Ranks,
    as_ranks,
    difference,
    first_right,
    reciprocal,
)
from slipstream.ensemble.retrieval.store import Chunk

GROUPS = (("documentation", "docstring", "en"), ("questions", "question", "en"), ("Russian", "question", "ru"))
SPLITS = ("development", "test")
READ = 200
_DEPTH = 100  # results, of which as many are read as have that many lines
_WIDTH = 34


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way's answers to all queries.

    Attributes:
        lines: of a chunk, in the mean.
        ranks: of the first right chunk, 0 without one [queries].
        read: lines of all chunks up to that one's end, infinite without one [queries].
    """

    name: str
    chunks: int
    lines: float
    ranks: Ranks
    read: Floats


def without(collection: Collection, packages: Container[str]) -> Collection:
    """The same without what is in, or asks for, some packages."""

    def stays(path: str) -> bool:
        return path.partition("/")[0] not in packages

    return replace(
        collection,
        chunks=tuple(chunk for chunk in collection.chunks if stays(chunk.path)),
        queries=tuple(query for query in collection.queries if stays(query.answers[0].path)),
    )


def outcome(name: str, ranker: Ranker, chunks: Sequence[Chunk], queries: Sequence[Query]) -> Outcome:
    """Ask all of ``queries``, which have answers."""
    ranks, read = [], []
    for query in queries:
        found = ranker.rank(query, _DEPTH)
        rank, _ = first_right(found, query.answers)
        ranks.append(rank)
        read.append(sum(one.line_end - one.line_start + 1 for one in found[:rank]) if rank else np.inf)
    lines = sum(chunk.line_end - chunk.line_start + 1 for chunk in chunks) / len(chunks)
    return Outcome(name, len(chunks), lines, as_ranks(ranks), np.asarray(read, dtype=np.float64))


def show(outcomes: Sequence[Outcome], queries: Sequence[Query]) -> None:
    """Print a table for each split; every line is compared with the first."""
    width = max(len(one.name) for one in outcomes) + 2
    for split in SPLITS:
        groups = [_rows(queries, split, kind, language) for _, kind, language in GROUPS]
        heads = [f"{name} ({rows.sum()})" for (name, *_), rows in zip(GROUPS, groups, strict=True)]
        heads.append(f"within {READ} lines read")
        print(f"\n{split:{width}}{'chunks':>7} {'lines':>6}  {''.join(f'{head:{_WIDTH}}' for head in heads)}".rstrip())
        english = groups[0] | groups[1]
        for one in outcomes:
            pairs = [(reciprocal(one.ranks[rows]), reciprocal(outcomes[0].ranks[rows])) for rows in groups]
            pairs.append(((one.read[english] <= READ) * 1.0, (outcomes[0].read[english] <= READ) * 1.0))
            cells = "".join(f"{_compared(*pair, is_first=one is outcomes[0]):{_WIDTH}}" for pair in pairs)
            print(f"{one.name:{width}}{one.chunks:7,} {one.lines:6.1f}  {cells}".rstrip())


def _rows(queries: Sequence[Query], split: str, kind: str, language: str) -> NDArray[np.bool_]:
    return np.asarray([(one.split, one.kind, one.language) == (split, kind, language) for one in queries])


def _compared(values: Floats, usual: Floats, *, is_first: bool) -> str:
    if not len(values):
        return ""
    if is_first:
        return f"{values.mean():.3f}"
    more = difference(values, usual)
    return f"{values.mean():.3f} {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})"
