"""A corpus of any size from 10,000 real chunks: copies with renamed symbols, and vectors that lie as theirs would.

To embed 100,000 chunks takes twenty minutes and more on two cores. So a copy's vector is its original's, moved by what
renaming really does: 500 renamed chunks are embedded, and every copy draws its cosine to the original from the measured
ones and its direction from a Gaussian with the covariance of the measured directions.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval import bm25
from slipstream.ensemble.retrieval.chunker import chunk_file, embedded_text
from slipstream.ensemble.retrieval.store import Chunk, Point
from slipstream.ensemble.retrieval.walk import resolve_root, walk

PACKAGES = (
    "fastapi", "starlette", "pydantic", "sqlalchemy", "aiohttp", "flask", "urllib3", "requests", "jinja2", "locust",
    "httpcore", "gunicorn", "openai", "alembic", "peft", "qdrant_client", "nncf", "mlflow",
)  # fmt: skip
SEED, REAL, SAMPLE = 20261121, 10_000, 500
_WORD = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}")
_COMMON_SHARE = 0.01  # what stands in more than 1% of chunks is language, not a symbol: `self`, `return`, `value`
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """Real chunks with their vectors [n, dimension], and what renaming does to a vector.

    Attributes:
        names: words that renaming replaces, and those it replaces them with.
        cosines: of really embedded renamed chunks to their originals.
        moves: the unit directions [sample, dimension] in which these lie from their originals.
    """

    chunks: list[Chunk]
    vectors: Vectors
    names: list[str]
    cosines: NDArray[np.float64]
    moves: Vectors

    def describe(self) -> str:
        low, middle, high = np.percentile(self.cosines, (10, 50, 90))
        return (
            f"{len(self.chunks):,} real ones, the rest copies with {len(self.names):,} names renamed; a copy's vector "
            f"is its original's, moved as {len(self.cosines)} really embedded renamed chunks lie from theirs (cosine "
            f"{middle:.2f}, 10% below {low:.2f}, 10% above {high:.2f})"
        )

    def points(self, count: int) -> Iterator[Point]:
        """``count`` points: the real ones, then copy after copy of them; the same ones for equal arguments."""
        generator = np.random.default_rng(SEED)
        _, spread, axes = np.linalg.svd(self.moves, full_matrices=False)
        shape = (spread / np.sqrt(len(self.moves)))[:, np.newaxis] * axes
        for number in range(count):
            copy, row = divmod(number, len(self.chunks))
            chunk, vector = self.chunks[row], self.vectors[row]
            if copy:
                if row == 0:
                    renaming = Renaming(self.names, copy)
                chunk = renaming.of(chunk)
                move = generator.standard_normal(len(shape)) @ shape
                vector = moved(vector, move, generator.choice(self.cosines))
            yield Point(chunk, vector, bm25.encode_document(chunk))


class Renaming:
    """Every name becomes another one, the same throughout a copy: a real name, or two of them in one word."""

    def __init__(self, names: Sequence[str], copy: int) -> None:
        choice = random.Random(f"{SEED}/{copy}")  # noqa: S311 reproducible, not secret
        others = [name if choice.random() < 0.5 else name + choice.choice(names) for name in names]
        choice.shuffle(others)
        self._new = dict(zip(names, others, strict=True))
        self._copy = copy

    def of(self, chunk: Chunk) -> Chunk:
        path, symbol, text = (self._renamed(part) for part in (chunk.path, chunk.symbol, chunk.text))
        renamed = replace(chunk, path=f"copy{self._copy}/{path}", symbol=symbol, text=text)
        return replace(renamed, digest=sha256(embedded_text(renamed).encode("utf-8", "replace")).hexdigest())

    def _renamed(self, text: str) -> str:
        return _WORD.sub(self._other, text)

    def _other(self, found: re.Match[str]) -> str:
        word = found.group()
        new = self._new.get(word.lower(), word)
        return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new


def moved(vector: Vectors, move: NDArray[np.float64], cosine: float) -> Vectors:
    """The unit vector at ``cosine`` to ``vector``, in the direction of ``move``."""
    aside = move - (move @ vector) * vector
    aside /= np.linalg.norm(aside)
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * aside, dtype=np.float32)


def load(cache_dir: Path, embedder: Embedder, real: int = REAL) -> Corpus:
    """The corpus of ``real`` chunks; embedded once and kept below ``cache_dir`` as long as chunks and embedder stay."""
    chunks = real_chunks(real)
    names = rare_words(chunks)
    key = sha256("".join([embedder.digest, *names, *(chunk.digest for chunk in chunks)]).encode()).hexdigest()[:16]
    path = cache_dir / "benchmarks" / f"scale-{key}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        vectors = embedder.embed([embedded_text(chunk) for chunk in chunks])
        rows = random.Random(SEED).sample(range(len(chunks)), min(SAMPLE, len(chunks)))  # noqa: S311
        renaming = Renaming(names, 1)
        renamed = embedder.embed([embedded_text(renaming.of(chunks[row])) for row in rows])
        np.savez(path, vectors=vectors, rows=np.asarray(rows), renamed=renamed)
    kept = np.load(path)
    originals, renamed = kept["vectors"][kept["rows"]], kept["renamed"]
    cosines = np.clip(np.einsum("ij,ij->i", originals, renamed), -1, 1)
    aside = renamed - cosines[:, np.newaxis] * originals
    lengths = np.linalg.norm(aside, axis=1)
    moved = lengths > 0  # a chunk without any of the names stays where it is
    return Corpus(chunks, kept["vectors"], names, cosines, aside[moved] / lengths[moved, np.newaxis])


def real_chunks(count: int) -> list[Chunk]:
    """The first ``count`` distinct chunks of the installed packages, a file of each in turn."""
    files = [walk([resolve_root(f"pkg:{name}")]) for name in PACKAGES]
    found: dict[str, Chunk] = {}
    while files:
        for source in list(files):
            file = next(source, None)
            if file is None:
                files.remove(source)
                continue
            for chunk in chunk_file(file.path, file.absolute.read_bytes(), file.repo):
                found.setdefault(chunk.digest, chunk)
            if len(found) >= count:
                return list(found.values())[:count]
    raise RuntimeError(f"only {len(found)} chunks in {', '.join(PACKAGES)}")


def rare_words(chunks: Sequence[Chunk]) -> list[str]:
    """Words that name things in few chunks, in alphabetical order."""
    seen: Counter[str] = Counter()
    for chunk in chunks:
        seen.update({word.lower() for word in _WORD.findall(chunk.text)})
    return sorted(word for word, count in seen.items() if count <= _COMMON_SHARE * len(chunks))
