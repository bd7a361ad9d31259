"""Reading the files of a version twice: once to see whether anything changed, and once to chunk them.

A version remembers a digest of what was chunked, not of what was seen before: a file that changes or vanishes between
the two readings makes the next run build again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from slipstream.ensemble.retrieval import bm25, chunker, definitions, languages
from slipstream.ensemble.retrieval.hits import point_id
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import Skipped, SourceFile

_BATCH_CHUNKS = 128
"""Large enough that no core waits at its end, small enough that parsing the first one is not noticed."""


class SourceDigest:
    """A sha256 over all that shapes a version: the names and bytes of its files, in order, and our code.

    Attributes:
        files: those added so far.
        contents: the sha256 of each.
    """

    def __init__(self) -> None:
        self._total = sha256(shaping_code().encode())
        self.files: list[SourceFile] = []
        self.contents: list[str] = []

    def add(self, file: SourceFile, content: str) -> None:
        """``content`` is the sha256 of the file's bytes."""
        self._total.update(f"{file.repo}\0{file.path}\0{content}\n".encode())
        self.files.append(file)
        self.contents.append(content)

    def hexdigest(self) -> str:
        return self._total.hexdigest()


@dataclass(slots=True)
class Batch:
    """Chunks in the order of their files, and how many bytes of all files lie behind them."""

    chunks: list[Chunk] = field(default_factory=list)
    bytes_done: int = 0


def digested(found: Iterable[SourceFile], skipped: Skipped) -> SourceDigest:
    """The files that can be read; the others are counted."""
    digest = SourceDigest()
    for file in found:
        data = _read(file, skipped)
        if data is not None:
            digest.add(file, sha256(data).hexdigest())
    return digest


def batches(files: Sequence[SourceFile], digest: SourceDigest, skipped: Skipped) -> Iterator[Batch]:
    """The chunks of ``files``; ``digest`` gets what they were made from, and what is gone by now is counted."""
    batch = Batch()
    bytes_done = 0
    for file in files:
        bytes_done += file.size
        data = _read(file, skipped)
        if data is None:
            continue
        digest.add(file, sha256(data).hexdigest())
        batch.chunks += _distinct(chunker.chunk_file(file.path, data, file.repo))
        if len(batch.chunks) >= _BATCH_CHUNKS:
            batch.bytes_done = bytes_done
            yield batch
            batch = Batch()
    if batch.chunks:
        batch.bytes_done = bytes_done
        yield batch


def _read(file: SourceFile, skipped: Skipped) -> bytes | None:
    try:
        return file.absolute.read_bytes()
    except OSError:
        skipped["unreadable"] += 1
        return None


def _distinct(chunks: Iterable[Chunk]) -> Iterable[Chunk]:
    """Without those that a store takes for one: pieces of a long line that repeats itself have equal text and place."""
    return {point_id(chunk): chunk for chunk in chunks}.values()


def shaping_code() -> str:
    """Digests of the modules that shape chunks and terms, and the versions of the grammars."""
    files = [Path(str(module.__file__)) for module in (bm25, chunker, definitions, languages)]
    modules = [sha256(file.read_bytes()).hexdigest() for file in files]
    grammars = sorted(
        f"{name}=={distribution.version}"
        for distribution in metadata.distributions()
        if (name := distribution.name or "").startswith("tree-sitter")
    )
    return "\n".join([*modules, *grammars]) + "\n"


__all__ = ["Batch", "SourceDigest", "batches", "digested", "shaping_code"]
