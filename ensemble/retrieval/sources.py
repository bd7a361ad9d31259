"""Reading the files of a version twice: once to see whether anything changed, and once to chunk them.

A version remembers a digest of what was chunked, not of what was seen before: a file that changes or vanishes between
the two readings makes the next run build again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Protocol

from slipstream.ensemble.retrieval import (
    bm25,
    chunker,
    decoding,
    definitions,
    languages,
    notebooks,
    pages,
    roles,
    spans,
    words,
)
from slipstream.ensemble.retrieval.chunk_process import ChunkProcess
from slipstream.ensemble.retrieval.freshness.commits import revision_of
from slipstream.ensemble.retrieval.freshness.revisions import Revision
from slipstream.ensemble.retrieval.hits import point_id
from slipstream.ensemble.retrieval.roots import SourceNotFound, is_there
from slipstream.ensemble.retrieval.store import Chunk, FileKey
from slipstream.ensemble.retrieval.walk import MAX_BYTES, Skipped, SourceFile, resolve_root, walk

_SHAPING = (bm25, chunker, decoding, definitions, languages, notebooks, pages, roles, spans, words)
_BATCH_CHUNKS = 128
"""Large enough that no core waits at its end, small enough that parsing the first one is not noticed."""


class SourceDigest:
    """A sha256 over all that shapes a version: the names and bytes of its files, in order, and our code.

    Attributes:
        files: those added so far.
        contents: what tells the bytes of each from others.
    """

    def __init__(self) -> None:
        self._total = sha256(shaping_code().encode())
        self.files: list[SourceFile] = []
        self.contents: list[str] = []

    def add(self, file: SourceFile, content: str) -> None:
        """``content`` tells the file's bytes from others: their sha256, or what git calls them."""
        self._total.update(f"{file.repo}\0{file.path}\0{content}\n".encode())
        self.files.append(file)
        self.contents.append(content)

    def by_file(self) -> dict[FileKey, str]:
        """The contents by repo and path."""
        return {(file.repo, file.path): content for file, content in zip(self.files, self.contents, strict=True)}

    def hexdigest(self) -> str:
        return self._total.hexdigest()


class Sources(Protocol):
    """What a version is made from.

    Attributes:
        names: what the caller called its parts, each with the folder it is in.
    """

    names: Sequence[tuple[str, Path]]

    def files(self, skipped: Skipped) -> Iterable[SourceFile]:
        """The files to index; what is left out is counted in ``skipped``."""
        ...

    def revisions(self) -> list[Revision]:
        """The commits that they are of; none outside git."""
        ...

    def confirm(self) -> None:
        """Tell files that are gone from a place that is gone: what is left of that is no version of anything.

        Raises:
            SourceNotFound, GitFailed: it is not there any more.
        """
        ...


class WorkingTree(Sources):
    """What lies below the arguments of ``slipstream index`` now (see `resolve_root`).

    Raises:
        SourceNotFound: an argument names nothing.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._roots = [resolve_root(argument) for argument in arguments]
        self.names = [(name, root.path) for name, root in zip(arguments, self._roots, strict=True)]
        self._folders = [(name, place) for name, place in self.names if place.is_dir()]

    def files(self, skipped: Skipped) -> Iterable[SourceFile]:
        return walk(self._roots, skipped)

    def revisions(self) -> list[Revision]:
        found = [revision_of(root) for root in self._roots]
        return list(dict.fromkeys(revision for revision in found if revision is not None))

    def confirm(self) -> None:
        for name, place in self._folders:
            if not is_there(place):
                raise SourceNotFound(f"{name!r} is not there any more", "bring it back, and run this again")


@dataclass(slots=True)
class Batch:
    """Chunks in the order of their files, and how many bytes of all files lie behind them."""

    chunks: list[Chunk] = field(default_factory=list)
    bytes_done: int = 0


def digested(found: Iterable[SourceFile], skipped: Skipped) -> SourceDigest:
    """The files that can be read; the others are counted."""
    digest = SourceDigest()
    for file in found:
        if file.known_content is not None:
            digest.add(file, file.known_content)
        elif (data := _read(file, skipped)) is not None:
            digest.add(file, _content(file, data))
    return digest


def batches(files: Iterable[SourceFile], digest: SourceDigest, skipped: Skipped) -> Iterator[Batch]:
    """The chunks of ``files``; ``digest`` gets what they were made from, and what is gone by now is counted.

    A process of its own cuts them: see `ChunkProcess`.

    Raises:
        ChunkingUnavailable: it does not start.
    """
    batch = Batch()
    bytes_before = 0
    with ChunkProcess() as process:
        for file in files:
            data = _read(file, skipped)
            if data is not None:
                digest.add(file, _content(file, data))
                cut = process.cut(file.path, data, file.repo)
                skipped.update(cut.caveats)
                chunks = list(_distinct(cut.chunks))
                for done, chunk in enumerate(chunks, 1):  # one file of 200,000 lines is a hundred batches
                    batch.chunks.append(chunk)
                    if len(batch.chunks) >= _BATCH_CHUNKS:
                        batch.bytes_done = bytes_before + file.size * done // len(chunks)
                        yield batch
                        batch = Batch()
            bytes_before += file.size
    if batch.chunks:
        batch.bytes_done = bytes_before
        yield batch


def _read(file: SourceFile, skipped: Skipped) -> bytes | None:
    try:
        data = file.read()
    except OSError:
        skipped["unreadable"] += 1
        return None
    if len(data) > MAX_BYTES:
        skipped["too_large"] += 1
        return None
    return data


def _content(file: SourceFile, data: bytes) -> str:
    return file.known_content or sha256(data).hexdigest()


def _distinct(chunks: Iterable[Chunk]) -> Iterable[Chunk]:
    """Without those that a store takes for one: pieces of a long line that repeats itself have equal text and place."""
    return {point_id(chunk): chunk for chunk in chunks}.values()


@cache
def shaping_code() -> str:
    """Digests of the modules that shape chunks and terms, and the versions of the grammars and the stemmer."""
    files = [Path(str(module.__file__)) for module in _SHAPING]
    modules = [sha256(file.read_bytes()).hexdigest() for file in files]
    packages = sorted(
        f"{name}=={distribution.version}"
        for distribution in metadata.distributions()
        if (name := distribution.name or "").startswith(("tree-sitter", "PyStemmer"))
    )
    return "\n".join([*modules, *packages]) + "\n"


__all__ = ["Batch", "SourceDigest", "Sources", "WorkingTree", "batches", "digested", "shaping_code"]
