"""Chunks as the stores keep them, and filters over them.

Shared by both stores, so that the same collection answers alike on either.
"""

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any
from uuid import UUID

from slipstream.ensemble.contracts import SearchFilter
from slipstream.ensemble.retrieval.store import Chunk, Point, SparseVector

DENSE, SPARSE = "dense", "sparse"
# Payload fields that searches filter by. WITHIN holds a path and every folder above it, which makes "below this
# folder" an exact keyword match: the engine finds three matches among a million without looking at the rest.
REPO, LANGUAGE, WITHIN = "repo", "language", "within"
FILTERED = (REPO, LANGUAGE, WITHIN)

_CHUNK_FIELDS = tuple(Chunk.__dataclass_fields__)


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
        Chunk(**{name: payload[name] for name in _CHUNK_FIELDS if name in payload}),
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


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
