"""Chunks as the stores keep them, filters over them, and two ranked lists made into one.

Shared by both stores, so that the same collection answers alike on either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from slipstream.ensemble.contracts import Hit, SearchFilter
from slipstream.ensemble.retrieval.store import Chunk, Point, SparseVector

DENSE, SPARSE = "dense", "sparse"
# Payload fields that searches filter by. WITHIN holds a path and every folder above it, which makes "below this
# folder" an exact keyword match: the engine finds three matches among a million without looking at the rest.
REPO, LANGUAGE, WITHIN = "repo", "language", "within"
FILTERED = (REPO, LANGUAGE, WITHIN)

_CHUNK_FIELDS = tuple(Chunk.__dataclass_fields__)
# Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods*,
# SIGIR 2009: 60, found in their pilot and not critical.
_RRF_K = 60
# A matrix product sums equal rows in different orders, so equal vectors may differ by some units of float32's 6e-8.
_SAME = 1e-6


class Candidate(NamedTuple):
    """A chunk's payload with its score in one ranked list."""

    score: float
    payload: Mapping[str, Any]


def candidates(limit: int) -> int:
    """How deep each list is read for ``limit`` hits: a chunk may stand low in both and still win."""
    return max(100, 2 * limit)


def point_id(chunk: Chunk) -> str:
    """The id of a chunk's point: the same chunk has the same id in every version and store."""
    place = "\0".join((chunk.repo, chunk.path, str(chunk.line_start), str(chunk.line_end), chunk.digest))
    return str(UUID(bytes=sha256(place.encode("utf-8", "surrogatepass")).digest()[:16]))


def to_payload(chunk: Chunk) -> dict[str, Any]:
    return asdict(chunk) | {WITHIN: folders(chunk.path)}


def to_point(payload: Mapping[str, Any], vectors: Mapping[str, Any]) -> Point:
    """What a store gives back of a point, with the ``vectors`` that it was asked for."""
    sparse = vectors.get(SPARSE)
    return Point(
        Chunk(**{name: payload[name] for name in _CHUNK_FIELDS}),
        vectors.get(DENSE, []),
        SparseVector(sparse.indices, sparse.values) if sparse is not None else SparseVector([], []),
    )


def folders(path: str) -> list[str]:
    """``a/b/c.py`` gives ``a``, ``a/b``, ``a/b/c.py``."""
    parts = _parts(path)
    return ["/".join(parts[: length + 1]) for length in range(len(parts))]


def conditions(where: SearchFilter) -> dict[str, str]:
    """Payload field -> the value it must have (or contain).

    ``path_prefix`` is a folder or a file: ``src/app`` finds ``src/app/main.py`` and not ``src/apple.py``.
    """
    prefix = "/".join(_parts(where.path_prefix or ""))
    wanted = {REPO: where.repo, LANGUAGE: where.language, WITHIN: prefix or None}
    return {name: value for name, value in wanted.items() if value is not None}


def fuse(lists: Iterable[Sequence[Candidate]], limit: int) -> list[Hit]:
    """Reciprocal rank fusion: a chunk scores the sum of ``1 / (60 + rank)`` over the lists, ranks from 1.

    Chunks with equal scores share a rank, and ties are broken by place, so that the answer does not depend on the order
    in which chunks were indexed (Qdrant's own fusion ranks equal scores as they happen to lie).
    """
    scores: dict[tuple[Any, ...], float] = {}
    payloads: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for ranked in lists:
        rank, last = 0, None
        for position, candidate in enumerate(sorted(ranked, key=lambda candidate: -candidate.score), start=1):
            if last is None or last - candidate.score > _SAME * abs(last):
                rank, last = position, candidate.score
            place = _place(candidate.payload)
            scores[place] = scores.get(place, 0.0) + 1 / (_RRF_K + rank)
            payloads[place] = candidate.payload
    best = sorted(scores, key=lambda place: (-scores[place], place))[:limit]
    return [_hit(payloads[place], scores[place]) for place in best]


def _place(payload: Mapping[str, Any]) -> tuple[Any, ...]:
    return (payload["repo"], payload["path"], payload["line_start"], payload["line_end"], payload["digest"])


def _hit(payload: Mapping[str, Any], score: float) -> Hit:
    return Hit(score=score, **{name: payload[name] for name in Hit.model_fields if name != "score"})


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
