"""The versions of a collection that are kept, as the indexer of the next one sees them."""

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog

from slipstream.ensemble.retrieval.errors import CollectionNotFound, IndexDamaged, VersionGone
from slipstream.ensemble.retrieval.sources import SourceDigest, shaping_code
from slipstream.ensemble.retrieval.store import FileEntry, FileKey, VectorStore, VersionInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = structlog.get_logger(__name__)

SOURCES, SHAPING = "sources_sha256", "shaping_sha256"
_MOST_CHANGED = 0.5
"""Share of a version's files from which on the next one is built whole: that is as fast, and leaves no gaps."""


class History:
    """What is known before a run. Damaged versions count for nothing: the run replaces them.

    Raises:
        StoreUnavailable: the server does not answer; to embed everything again would not help.
    """

    def __init__(self, store: VectorStore, collection: str, embedder_digest: str) -> None:
        self._store = store
        self._collection = collection
        try:
            self._versions = store.versions(collection)
        except CollectionNotFound:
            self._versions = []
        except IndexDamaged as error:
            self._passed_over(error)
            self._versions = []
        self._usable = [info for info in self._versions if info.embedder_digest == embedder_digest]
        self._shaping = sha256(shaping_code().encode()).hexdigest()

    @property
    def current(self) -> VersionInfo | None:
        return self._versions[0] if self._versions else None

    @cached_property
    def vectors(self) -> "Mapping[str, NDArray[np.float32]]":
        """Of chunks that the same embedder has seen, by digest."""
        return self._store.vectors(self._collection) if self.current in self._usable else {}

    def equal_to(self, sources: SourceDigest) -> VersionInfo | None:
        """The kept version that was made from ``sources``, if its files are as they were."""
        for info in self._usable:
            if info.facts.get(SOURCES) == sources.hexdigest():
                try:
                    self._store.check(self._collection, info.version)
                except (IndexDamaged, VersionGone) as error:
                    self._passed_over(error)
                else:
                    return info
        return None

    def nearest(self, sources: SourceDigest) -> VersionInfo | None:
        """The kept version that differs from ``sources`` in the fewest files, if it is not most of them."""
        wanted = sources.by_file()
        differing: dict[str, int] = {}
        for info in self._usable:
            if info.facts.get(SHAPING) == self._shaping and (files := self._files(info)):
                same = sum(key in files and files[key].content == content for key, content in wanted.items())
                changed = len(wanted.keys() | files.keys()) - same
                if changed <= _MOST_CHANGED * max(len(wanted), len(files)):
                    differing[info.version] = changed
        return min(
            (info for info in self._usable if info.version in differing),
            key=lambda info: differing[info.version],
            default=None,
        )

    def digests(self, info: VersionInfo | None) -> set[str]:
        """Of the chunks of a version; none where it does not remember them."""
        files = self._files(info) if info is not None else {}
        if not files and info is self.current:
            return set(self.vectors)
        return {digest for entry in files.values() for digest in entry.digests}

    def facts(self, sources: SourceDigest) -> dict[str, str]:
        """What a version made from ``sources`` has to remember, for the next run to know it again."""
        return {SOURCES: sources.hexdigest(), SHAPING: self._shaping}

    def _files(self, info: VersionInfo) -> Mapping[FileKey, FileEntry]:
        return self._store.files(info)

    def _passed_over(self, error: IndexDamaged | VersionGone) -> None:
        log.warning("index.previous_version_unusable", collection=self._collection, reason=error.message)


__all__ = ["History"]
