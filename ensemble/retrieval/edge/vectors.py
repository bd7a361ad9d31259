"""Dense vectors beside a version, for the indexer that builds the next one while a server holds the shard."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTOR_FILES = _DIGESTS, _ROWS = "digests.txt", "vectors.f32"


class VectorWriter:
    """Appends the vectors of new digests to ``folder``: one line of text and one row of little-endian float32 each."""

    def __init__(self, folder: Path) -> None:
        self._seen: set[str] = set()
        self._digests = (folder / _DIGESTS).open("w", encoding="ascii")
        self._rows = (folder / _ROWS).open("wb")

    def append(self, digests: Sequence[str], vectors: "Sequence[NDArray[np.float32]]") -> None:
        for digest, vector in zip(digests, vectors, strict=True):
            if digest not in self._seen:
                self._seen.add(digest)
                self._digests.write(digest + "\n")
                self._rows.write(vector.astype("<f4", copy=False).tobytes())

    def close(self) -> None:
        self._digests.close()
        self._rows.close()


def read_vectors(folder: Path, dimension: int) -> "dict[str, NDArray[np.float32]]":
    """Digest -> vector [dimension], as written.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they do not fit each other.
    """
    import numpy as np

    digests = (folder / _DIGESTS).read_text(encoding="ascii").splitlines()
    values = np.fromfile(folder / _ROWS, dtype="<f4")
    return dict(zip(digests, values.reshape(len(digests), dimension), strict=True))
