"""A version of a collection of Qdrant Edge under construction."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from shutil import rmtree
from typing import Any

import structlog

from slipstream.ensemble.retrieval.edge import shard as shards
from slipstream.ensemble.retrieval.edge.copying import copy_tree
from slipstream.ensemble.retrieval.edge.files import read_files, write_files
from slipstream.ensemble.retrieval.edge.vectors import FOLDER, VectorWriter, start_from
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder
from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.lock import FileLock
from slipstream.ensemble.retrieval.store import FileEntry, FileKey, Point, VersionInfo, Writer, checked, closed

log = structlog.get_logger(__name__)


class EdgeWriter(Writer):
    """A version in a folder of its own that no reader knows, until it is whole.

    It starts from a copy of ``base`` if that one is as it was published, else empty.
    """

    def __init__(
        self, folder: CollectionFolder, info: VersionInfo, lock: FileLock, base: VersionInfo | None = None
    ) -> None:
        self._folder = folder
        self._info = info
        self._lock = lock
        self._path = folder.building_path(info.version)
        self._path.mkdir()
        self._files: dict[FileKey, FileEntry] = {}
        self._digests: dict[FileKey, list[str]] = {}
        self._base = base if base is not None and self._start_from(base) else None
        if self._base is None:
            self._vectors = VectorWriter(self._path, info.version)
            self._shard: Any = shards.create(self._path / "shard", info.dimension)

    @property
    def files(self) -> Mapping[FileKey, FileEntry]:
        return self._files

    def _start_from(self, base: VersionInfo) -> bool:
        source = self._folder.version_path(base.version)
        try:
            info, expected = self._folder.kept(base.version)
            self._folder.check(info, expected.shard)
            self._folder.check_indexer_files(info, expected.indexer)
            files = read_files(source)
            live = list(dict.fromkeys(digest for entry in files.values() for digest in entry.digests))
            copy_tree(source / "shard", self._path / "shard")
            self._vectors = start_from(source, self._path, self._info.version, info.dimension, live)
            self._shard = shards.load(self._path / "shard")
        except (StoreUnavailable, OSError, ValueError, KeyError) as error:
            log.warning("index.built_from_scratch", collection=self._info.collection, reason=str(error))
            rmtree(self._path / "shard", ignore_errors=True)
            rmtree(self._path / FOLDER, ignore_errors=True)
            return False
        self._files = files
        self._digests = {key: list(entry.digests) for key, entry in files.items()}
        return True

    def remove(self, files: Sequence[FileKey]) -> None:
        with writing(self._folder):
            shards.remove_files(self._open_shard(), [key for key in files if self._digests.pop(key, None)])
        for key in files:
            self._files.pop(key, None)

    def upsert(self, points: Sequence[Point]) -> None:
        vectors = [checked(self._info, point.dense) for point in points]
        with writing(self._folder):
            shards.upsert(self._open_shard(), points, vectors)
            self._vectors.append([point.chunk.digest for point in points], vectors)
        for point in points:
            self._digests.setdefault((point.chunk.repo, point.chunk.path), []).append(point.chunk.digest)

    def publish(self, contents: Mapping[FileKey, str] | None = None, *, keep: int = 2, **facts: Any) -> VersionInfo:
        with writing(self._folder):
            chunks = shards.finish(self._open_shard(), self._path / "shard")
            self._vectors.close()
            write_files(self._path, contents or {}, self._digests)
            self._info = replace(self._info, chunks=chunks, facts={**self._info.facts, **facts})
            self._folder.publish(self._info, keep, self._base)
            self._shard = None
            self._folder.prune()
        self._lock.release()
        log.info("index.published", collection=self._info.collection, version=self._info.version, chunks=chunks)
        return self._info

    def discard(self) -> None:
        if self._shard is not None:
            with suppress(Exception):
                self._shard.close()
            self._shard = None
            with suppress(OSError):  # no room for what is thrown away
                self._vectors.close()
            rmtree(self._path, ignore_errors=True)
        self._lock.release()

    def _open_shard(self) -> Any:
        if self._shard is None:
            raise closed(self._info)
        return self._shard


def writing(folder: CollectionFolder) -> Any:
    return shards.engine(
        f"The index of {folder.collection!r} cannot be written", f"Check space and permissions of {folder.path}."
    )
