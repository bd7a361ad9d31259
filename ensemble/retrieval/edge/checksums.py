"""CRC-32 of the files of a version: whether they are still what was published."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slipstream.ensemble.retrieval.edge import files, vectors


class Checksums(NamedTuple):
    """CRC-32 of a version's files by name: those that a reader needs, and those that only the next indexer does."""

    shard: dict[str, int]
    indexer: dict[str, int]


def checksums(folder: Path) -> Iterator[tuple[str, int]]:
    """Path relative to ``folder`` and CRC-32 of every file, sorted by path."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), _checksum(path)


def indexer_checksums(folder: Path) -> Iterator[tuple[str, int]]:
    """The same of what the next indexer needs of the version in ``folder``."""
    yield files.NAME, _checksum(folder / files.NAME)
    yield from checksums(folder / vectors.FOLDER)


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
