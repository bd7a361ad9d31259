"""Dense vectors beside a version, for the indexer that builds the next one while a server holds the shard.

They lie in *segments*: files that are never changed once written. A version that starts from another one links the
segments of that one and writes one with what is new, so that a hundred revisions cost little more than one.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "vectors"
_DIGESTS, _ROWS = ".digests", ".f32"  # one line of text and one row of little-endian float32 for each chunk
_MOST_SEGMENTS = 8
_DEAD_SHARE, _DEAD_ROWS = 1.0, 4_096
"""Rows of chunks that are gone, as a share of those that are not, from which on all are written anew."""


class VectorWriter:
    """Writes the vectors of new digests to ``folder``, as the segment ``name``."""

    def __init__(self, folder: Path, name: str, known: Iterable[str] = ()) -> None:
        self._seen = set(known)
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        self._digests = (place / f"{name}{_DIGESTS}").open("w", encoding="ascii")
        self._rows = (place / f"{name}{_ROWS}").open("wb")

    def append(self, digests: Sequence[str], vectors: "Sequence[NDArray[np.float32]]") -> None:
        for digest, vector in zip(digests, vectors, strict=True):
            if digest not in self._seen:
                self._seen.add(digest)
                self._digests.write(digest + "\n")
                self._rows.write(vector.astype("<f4", copy=False).tobytes())

    def close(self) -> None:
        """
        Raises:
            OSError: the disk is full. Both files are closed even so.
        """
        try:
            self._digests.close()
        finally:
            self._rows.close()


class Vectors(Mapping[str, "NDArray[np.float32]"]):
    """Digest -> vector [dimension], read from the segments when asked for."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._arrays: list[NDArray[np.float32]] = []
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, segment: Path) -> None:
        """
        Raises:
            OSError: one of the two files is missing.
            ValueError: they do not fit each other.
        """
        import numpy as np

        digests = segment.with_name(segment.name + _DIGESTS).read_text(encoding="ascii").splitlines()
        rows = segment.with_name(segment.name + _ROWS)
        if rows.stat().st_size != len(digests) * self._dimension * 4:
            raise ValueError(f"{rows.name} has not {len(digests)} rows of {self._dimension}")
        if digests:  # an empty file cannot be mapped
            self._arrays.append(np.memmap(rows, dtype="<f4", mode="r").reshape(len(digests), self._dimension))
            array = len(self._arrays) - 1
            self._places.update((digest, (array, row)) for row, digest in enumerate(digests))

    def __getitem__(self, digest: str) -> "NDArray[np.float32]":
        array, row = self._places[digest]
        vector: NDArray[np.float32] = self._arrays[array][row]
        return vector

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def segments(folder: Path) -> list[Path]:
    """Of a version, by name, without their suffixes."""
    return sorted(path.with_suffix("") for path in (folder / FOLDER).glob(f"*{_ROWS}"))


def start_from(base: Path, folder: Path, name: str, dimension: int, live: Sequence[str]) -> VectorWriter:
    """A writer for ``folder`` that has the vectors of ``base`` whose digests are ``live``, and maybe others.

    Raises:
        OSError, ValueError: the segments of ``base`` cannot be read.
    """
    vectors = Vectors(dimension)
    for segment in segments(base):
        vectors.add(segment)
    dead = len(vectors) - len(live)
    if len(segments(base)) >= _MOST_SEGMENTS or dead > max(_DEAD_ROWS, _DEAD_SHARE * len(live)):
        writer = VectorWriter(folder, name)
        writer.append(live, [vectors[digest] for digest in live])
        return writer
    (folder / FOLDER).mkdir()
    for path in (base / FOLDER).iterdir():
        os.link(path, folder / FOLDER / path.name)
    return VectorWriter(folder, name, vectors)
