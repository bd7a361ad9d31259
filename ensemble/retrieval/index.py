"""From source trees to the next version of a collection: walk → chunk → embed what is new → upsert → publish.

Until the last step readers keep the version they have; a run that dies changes nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import structlog

from slipstream import InputError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.freshness.history import History
from slipstream.ensemble.retrieval.freshness.revisions import KEEP, REVISIONS, Revision, merged, revisions_of
from slipstream.ensemble.retrieval.run import Indexing, Run
from slipstream.ensemble.retrieval.sources import SourceDigest, Sources, WorkingTree, digested
from slipstream.ensemble.retrieval.store import (
    VectorStore,
    VersionInfo,
    Writer,
)
from slipstream.ensemble.retrieval.walk import Skipped, SourceFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = structlog.get_logger(__name__)


class NothingToIndex(InputError):
    """There is no source in what was named."""


StartIndexing: TypeAlias = "Callable[[Writer, Embedder, Mapping[str, NDArray[np.float32]], Progress], Indexing]"
"""What does the work, from where to write, the embedder, the vectors that are known and whom to tell."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run did.

    Attributes:
        version: the published one; the one that was there, if ``unchanged``.
        files: those it was made from.
        chunks: in that version; ``embedded`` of them are new to it and ``reused`` keep the vector they had.
        removed: chunks of the version before that are in no file any more.
        skipped: files and folders that were left out, by reason.
        caveats: of the files that were chunked in this run, those that show less than they might, by kind.
        empty_roots: what was named and holds no source.
        revisions: the commits it is of, as they are shown.
    """

    collection: str
    version: str
    unchanged: bool
    files: int
    chunks: int
    embedded: int
    reused: int
    removed: int
    skipped: dict[str, int]
    caveats: dict[str, int]
    empty_roots: list[str]
    revisions: list[str]
    seconds: float


def build_index(
    arguments: Sequence[str],
    collection: str,
    store: VectorStore,
    embedder: Embedder,
    progress: Progress,
    indexing: "StartIndexing | None" = None,
    keep: int = KEEP,
) -> IndexReport:
    """Make the files below ``arguments`` (see `resolve_root`) the next version of ``collection``, and all of it.

    See `build_version`.

    Raises:
        SourceNotFound: an argument names nothing.
        NothingToIndex, StoreUnavailable: see `build_version`.
    """
    return build_version(WorkingTree(arguments), collection, store, embedder, progress, indexing, keep)


def build_version(
    sources: Sources,
    collection: str,
    store: VectorStore,
    embedder: Embedder,
    progress: Progress,
    indexing: "StartIndexing | None" = None,
    keep: int = KEEP,
) -> IndexReport:
    """Make ``sources`` the next version of ``collection``, and all of it.

    A version that is kept and was made from equal sources by the same embedder and chunker is published again, and
    nothing at all is done if it is the current one. Else the next starts from the kept version that differs in the
    fewest files, if the store can do so. ``indexing`` is `Run` by default; it gets the writer, the embedder, and the
    vectors that are known by digest. ``keep``: see `Writer.publish`.

    Raises:
        NothingToIndex: there is no source file; what was published stays.
        SourceNotFound, GitFailed: the place of the sources went away meanwhile; what was published stays.
        StoreUnavailable: the disk is full, another run is writing, the server does not answer.
    """
    started = time.perf_counter()
    progress(0.0, "looking for source files")
    skipped = Skipped()
    seen = digested(sources.files(skipped), skipped)
    if not seen.files:
        sources.confirm()
        raise _nothing(sources, skipped)
    revisions = sources.revisions()
    history = History(store, collection, embedder.digest)
    equal = history.equal_to(seen)
    if equal is not None:
        made: _Made | None = _publish_again(equal, seen, store, history, revisions, keep)
    else:
        base = history.nearest(seen)
        with store.writer(collection, embedder.digest, embedder.dimension, base) as writer:
            run = (indexing or Run)(writer, embedder, history.vectors, progress)

            def finishing() -> None:
                sources.confirm()
                progress(1.0, "finishing")

            made = _make(seen, writer, run, history, skipped, finishing, merged(revisions), keep)
    if made is None:
        raise _nothing(sources, skipped)
    return _report(made, history, sources, revisions, skipped, time.perf_counter() - started)


class _Made(NamedTuple):
    version: VersionInfo
    files: Sequence[SourceFile]
    embedded: int
    removed: int


def _publish_again(
    equal: VersionInfo,
    seen: SourceDigest,
    store: VectorStore,
    history: History,
    revisions: Sequence[Revision],
    keep: int,
) -> _Made:
    """Make a kept version the current one; it remembers ``revisions`` too."""
    facts = {**equal.facts, REVISIONS: merged(revisions, revisions_of(equal))}
    if equal is history.current:
        version = (
            equal if facts == {REVISIONS: [], **equal.facts} else store.republish(replace(equal, facts=facts), keep)
        )
        return _Made(version, seen.files, 0, 0)
    gone = history.digests(history.current) - kept if (kept := history.digests(equal)) else set()
    return _Made(store.republish(replace(equal, facts=facts), keep), seen.files, 0, len(gone))


def _make(
    seen: SourceDigest,
    writer: Writer,
    run: Indexing,
    history: History,
    skipped: Skipped,
    finishing: Callable[[], None],
    revisions: Sequence[Mapping[str, Any]],
    keep: int,
) -> _Made | None:
    """Bring a version under construction to what was ``seen``, and publish it; None if nothing is in it."""
    contents = seen.by_file()
    same = {key for key, entry in writer.files.items() if contents.get(key) == entry.content}
    writer.remove([key for key in writer.files if key not in same])
    digests = {digest for key in same for digest in writer.files[key].digests}
    changed = [file for file in seen.files if (file.repo, file.path) not in same]
    if changed:
        run.take(changed, skipped)
    digests |= run.digests
    finishing()
    if not digests:
        return None
    read = run.sources.by_file()
    final = SourceDigest()
    for file in seen.files:
        key = (file.repo, file.path)
        content = contents[key] if key in same else read.get(key)
        if content is not None:  # else it was gone when it was to be chunked
            final.add(file, content)
    before = history.digests(history.current)
    version = writer.publish(final.by_file(), keep=keep, **history.facts(final), **{REVISIONS: list(revisions)})
    return _Made(version, final.files, run.embedded, len(before - digests))


def _report(
    made: _Made,
    history: History,
    sources: Sources,
    revisions: Sequence[Revision],
    skipped: Skipped,
    seconds: float,
) -> IndexReport:
    version = made.version
    return IndexReport(
        collection=version.collection,
        version=version.version,
        unchanged=history.current is not None and version.version == history.current.version,
        files=len(made.files),
        chunks=version.chunks,
        embedded=made.embedded,
        reused=version.chunks - made.embedded,
        removed=made.removed,
        skipped=skipped.left_out(),
        caveats=skipped.caveats(),
        empty_roots=[name for name, folder in sources.names if not _holds_any(folder, made.files)],
        revisions=[revision.label() for revision in revisions],
        seconds=seconds,
    )


def _holds_any(folder: Path, files: Sequence[SourceFile]) -> bool:
    return any(file.absolute.is_relative_to(folder) for file in files)


def _nothing(sources: Sources, skipped: Skipped) -> NothingToIndex:
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    names = ", ".join(name for name, _ in sources.names)
    return NothingToIndex(
        f"no source to index in {names} (left out: {reasons or 'nothing, it is empty'})",
        "name a folder with Python, JavaScript, TypeScript, Go, Java, Rust, C, C++ or Markdown files",
    )


__all__ = ["IndexReport", "Indexing", "NothingToIndex", "Run", "Sources", "build_index", "build_version"]
