"""Vectors that were made once: a run that changes the ranking alone embeds nothing."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GROUP = 256  # texts between two commits: what an interrupted run loses
_VARIABLES = 500  # in one statement; SQLite allows 32,766
_BUSY_S = 60.0


class CachedEmbedder(Embedder):
    """An embedder that keeps its vectors below ``cache``, in one file for each model, by the sha256 of their text."""

    def __init__(self, folder: Path, cache: Path) -> None:
        super().__init__(folder)
        cache.mkdir(parents=True, exist_ok=True)
        self._file = cache / f"vectors-{self.digest[:32]}.sqlite"
        with closing(self._open()) as kept, kept:
            kept.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return self.embed_watched(texts, lambda share, doing: None)

    def embed_watched(self, texts: Sequence[str], progress: Progress) -> "NDArray[np.float32]":
        """Unit vectors [n, dimension] in the order of ``texts``; those that are new are made and kept."""
        import numpy as np

        keys = [sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        with closing(self._open()) as kept:
            known = _read(kept, list(dict.fromkeys(keys)))
            new = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in known]
            for start in range(0, len(new), _GROUP):
                progress(start / len(new), f"{start:,} of {len(new):,} texts embedded")
                group = new[start : start + _GROUP]
                made = super().embed([text for _, text in group])
                rows = [(key, vector.tobytes()) for (key, _), vector in zip(group, made, strict=True)]
                with kept:
                    kept.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
                known.update(rows)
        vectors = np.frombuffer(b"".join(known[key] for key in keys), dtype=np.float32)
        return vectors.reshape(len(texts), self.dimension)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=_BUSY_S)


def _read(kept: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _VARIABLES):
        some = keys[start : start + _VARIABLES]
        marks = ",".join("?" * len(some))
        found.update(kept.execute(f"SELECT text, vector FROM vectors WHERE text IN ({marks})", some))  # noqa: S608
    return found


__all__ = ["CachedEmbedder"]
