"""Search as the server does it: always the published version, whatever was published a moment ago."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from slipstream.ensemble.contracts import SearchFilter, SearchRequest, SearchResult
from slipstream.ensemble.retrieval.bm25 import encode_query
from slipstream.ensemble.retrieval.store import (
    CollectionNotFound,
    DenseVector,
    EmbedderMismatch,
    Reader,
    VectorStore,
    VersionGone,
    VersionInfo,
    remedy,
)

log = structlog.get_logger(__name__)

# Two versions published during one request is all it takes to lose one on a server; five times running is no accident.
_ATTEMPTS = 5


class _Open:
    """A reader, and how many searches are using it; the last one out closes a reader that was replaced."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.searches = 0
        self.replaced = False


class Searcher:
    """Searches the collections of ``store`` with vectors of the embedder ``embedder_digest``. Threads may share it.

    Each search asks for the published version (a file read, or one request to a Qdrant server) and opens it when it is
    another one than before. Searches that are under way finish on the version they began with.
    """

    def __init__(self, store: VectorStore, embedder_digest: str) -> None:
        self._store = store
        self._embedder_digest = embedder_digest
        self._open: dict[str, _Open] = {}
        self._guard = threading.Lock()

    def search(self, request: SearchRequest, dense: DenseVector) -> SearchResult:
        """The chunks nearest to ``dense`` [dimension] and to the words of ``request.query``, best first.

        Raises:
            CollectionNotFound: nothing of that name was published.
            EmbedderMismatch: another embedder made the collection's vectors.
            StoreUnavailable: the index cannot be opened, or the server does not answer.
        """
        where = SearchFilter(repo=request.repo, language=request.language, path_prefix=request.path_prefix)
        sparse = encode_query(request.query)
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            try:
                with self._reader(request.collection) as reader:
                    hits = reader.search(dense, sparse, request.limit, where)
            except VersionGone:
                if attempts == 0:
                    raise
            else:
                return SearchResult(hits=hits, collection=request.collection, index_version=reader.info.version)

    def close(self) -> None:
        """Close every reader; searches under way finish first."""
        with self._guard:
            for collection in list(self._open):
                self._retire(collection)

    @contextmanager
    def _reader(self, collection: str) -> Iterator[Reader]:
        entry = self._enter(collection)
        try:
            yield entry.reader
        finally:
            with self._guard:
                entry.searches -= 1
                _close_unused(entry)

    def _enter(self, collection: str) -> _Open:
        try:
            published = self._store.current(collection)  # outside the guard: it may be a request
        except CollectionNotFound:
            with self._guard:
                self._retire(collection)
            raise
        with self._guard:
            entry = self._open.get(collection)
            if entry is None or entry.reader.info.version != published.version:
                entry = self._switch(published)
            entry.searches += 1
            return entry

    def _switch(self, published: VersionInfo) -> _Open:
        self._check(published)  # before opening it, which costs a read of every file
        reader = self._store.reader(published.collection)
        try:
            self._check(reader.info)  # one more version may have come in between
        except EmbedderMismatch:
            reader.close()
            raise
        self._retire(published.collection)
        self._open[published.collection] = entry = _Open(reader)
        log.info("index.switched", collection=published.collection, version=reader.info.version)
        return entry

    def _check(self, info: VersionInfo) -> None:
        if info.embedder_digest != self._embedder_digest:
            raise EmbedderMismatch(
                f"The vectors of {info.collection!r} come from the embedder {info.embedder_digest[:12]}, and this "
                f"bundle's is {self._embedder_digest[:12]}",
                remedy(info.collection),
            )

    def _retire(self, collection: str) -> None:
        entry = self._open.pop(collection, None)
        if entry is not None:
            entry.replaced = True
            _close_unused(entry)


def _close_unused(entry: _Open) -> None:
    if entry.replaced and entry.searches == 0:
        entry.reader.close()
