"""Search as the server does it: always the published version, whatever was published a moment ago."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from slipstream.ensemble.contracts import SearchFilter, SearchRequest, SearchResult
from slipstream.ensemble.retrieval.bm25 import FORMAT, FORMAT_FACT, encode_query
from slipstream.ensemble.retrieval.confidence import confidence
from slipstream.ensemble.retrieval.errors import (
    CollectionNotFound,
    CollectionOutdated,
    EmbedderMismatch,
    VersionGone,
    remedy,
)
from slipstream.ensemble.retrieval.freshness.revisions import find
from slipstream.ensemble.retrieval.question import has_words
from slipstream.ensemble.retrieval.store import DenseVector, Found, Reader, VectorStore, VersionInfo

log = structlog.get_logger(__name__)

# Two versions published during one request is all it takes to lose one on a server; five times running is no accident.
_ATTEMPTS = 5
# Of a collection that somebody asked for; opening one costs a read of its files.
_EARLIER_VERSIONS = 2
_PUBLISHED = ""


class _Open:
    """A reader, and how many searches are using it; the last one out closes a reader that was replaced."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.searches = 0
        self.replaced = False


class Searcher:
    """Searches the collections of ``store`` with vectors of the embedder ``embedder_digest``. Threads may share it.

    Each search asks for the published version (a file read, or one request to a Qdrant server) and opens it when it is
    another one than before. Searches that are under way finish on the version they began with. The last earlier
    versions that a search named by their revision stay open.
    """

    def __init__(self, store: VectorStore, embedder_digest: str) -> None:
        self._store = store
        self._embedder_digest = embedder_digest
        self._open: dict[tuple[str, str], _Open] = {}  # by collection, and by version where that was asked for
        self._guard = threading.Lock()

    def search(self, request: SearchRequest, dense: DenseVector) -> SearchResult:
        """The chunks nearest to ``dense`` [dimension] and to the words of ``request.query``, best first.

        A query without a word finds nothing: its vector is that of no text, and what is nearest to it is no answer.

        Raises:
            CollectionNotFound: nothing of that name was published.
            RevisionNotFound: no version that is kept was made from that revision.
            EmbedderMismatch: another embedder made the collection's vectors.
            CollectionOutdated: another release indexed it.
            StoreUnavailable: the index cannot be opened, or the server does not answer.
        """
        where = SearchFilter(repo=request.repo, language=request.language, path_prefix=request.path_prefix)
        is_asked, sparse = has_words(request.query), encode_query(request.query)
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            try:
                with self._reader(request.collection, request.revision) as reader:
                    found = reader.search(dense, sparse, request.limit, where) if is_asked else Found([], 0.0, 0.0)
            except VersionGone:
                if attempts == 0:
                    raise
            else:
                return SearchResult(
                    hits=found.hits,
                    collection=request.collection,
                    index_version=reader.info.version,
                    confidence=confidence(found, len(sparse.indices), reader.info.chunks),
                )

    def close(self) -> None:
        """Close every reader; searches under way finish first."""
        with self._guard:
            for place in list(self._open):
                self._retire(place)

    @contextmanager
    def _reader(self, collection: str, revision: str | None) -> Iterator[Reader]:
        entry = self._enter(collection, revision)
        try:
            yield entry.reader
        finally:
            with self._guard:
                entry.searches -= 1
                _close_unused(entry)

    def _enter(self, collection: str, revision: str | None) -> _Open:
        try:
            wanted, version = self._wanted(collection, revision)  # outside the guard: it may be a request
        except CollectionNotFound:
            with self._guard:
                for place in [place for place in self._open if place[0] == collection]:
                    self._retire(place)
            raise
        with self._guard:
            entry = self._open.get((collection, version))
            if entry is None or entry.reader.info.version != wanted.version:
                entry = self._switch(wanted, version)
            elif version != _PUBLISHED:  # the last used stands last
                self._open[collection, version] = self._open.pop((collection, version))
            entry.searches += 1
            return entry

    def _wanted(self, collection: str, revision: str | None) -> tuple[VersionInfo, str]:
        """What to search, and its version if it is an earlier one."""
        if revision is None:
            return self._store.current(collection), _PUBLISHED
        published, *earlier = self._store.versions(collection)
        info = find([published, *earlier], revision)
        return info, _PUBLISHED if info.version == published.version else info.version

    def _switch(self, wanted: VersionInfo, version: str) -> _Open:
        check_searchable(wanted, self._embedder_digest)  # before opening it, which costs a read of every file
        reader = self._store.reader(wanted.collection, version or None)
        try:
            check_searchable(reader.info, self._embedder_digest)  # one more version may have come in between
        except (EmbedderMismatch, CollectionOutdated):
            reader.close()
            raise
        self._retire((wanted.collection, version))
        self._open[wanted.collection, version] = entry = _Open(reader)
        opened = [place for place in self._open if place[0] == wanted.collection and place[1] != _PUBLISHED]
        for place in opened[:-_EARLIER_VERSIONS]:
            self._retire(place)
        log.info("index.switched", collection=wanted.collection, version=reader.info.version)
        return entry

    def _retire(self, place: tuple[str, str]) -> None:
        entry = self._open.pop(place, None)
        if entry is not None:
            entry.replaced = True
            _close_unused(entry)


def check_searchable(info: VersionInfo, embedder_digest: str) -> None:
    """
    Raises:
        EmbedderMismatch: another embedder made the collection's vectors.
        CollectionOutdated: another release indexed it.
    """
    if info.embedder_digest != embedder_digest:
        raise EmbedderMismatch(
            f"The vectors of {info.collection!r} come from the embedder {info.embedder_digest[:12]}, and this "
            f"bundle's is {embedder_digest[:12]}",
            remedy(info.collection),
        )
    if info.facts.get(FORMAT_FACT) != FORMAT:
        raise CollectionOutdated(
            f"{info.collection!r} was indexed by another release: its words are not those of this one's questions",
            remedy(info.collection),
        )


def _close_unused(entry: _Open) -> None:
    if entry.replaced and entry.searches == 0:
        entry.reader.close()
