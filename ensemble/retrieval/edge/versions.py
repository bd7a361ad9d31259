"""Where the collections of Qdrant Edge lie on the disk, and how one version takes another's place.

::

    index/<collection>/
        CURRENT                the version that is published, and those that are kept, the last published first
        WRITER.lock            held by the process that builds the next version
        .building-<version>/   under construction; cleared by the next writer if its process dies
        <version>/
            version.json       `VersionInfo`, and the checksums of the files of the shard, and of what the indexer needs
            READER.lock        held by the one process that has the shard open
            shard/             Qdrant Edge
            vectors/           see `edge.vectors`
            files.txt          see `edge.files`

Everything is built aside, brought to the disk and renamed. Versions share files that are equal, by links: nobody
writes to a published one. A version is removed when it is not kept (`freshness.revisions.retained`) and nobody has it
open.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slipstream.ensemble.disk import sync
from slipstream.ensemble.retrieval.edge.checksums import Checksums, checksums, indexer_checksums
from slipstream.ensemble.retrieval.edge.copying import share_equal
from slipstream.ensemble.retrieval.errors import IndexDamaged, VersionGone, not_found, remedy
from slipstream.ensemble.retrieval.freshness.revisions import retained
from slipstream.ensemble.retrieval.lock import FileLock
from slipstream.ensemble.retrieval.naming import check_name, is_version
from slipstream.ensemble.retrieval.store import VersionInfo


class CollectionFolder:
    """The versions of one collection."""

    def __init__(self, index_dir: Path, collection: str) -> None:
        self.collection = check_name(collection)
        self.path = index_dir / collection

    def version_path(self, version: str) -> Path:
        return self.path / version

    def building_path(self, version: str) -> Path:
        return self.path / f".building-{version}"

    def writer_lock(self) -> FileLock:
        return FileLock(self.path / "WRITER.lock")

    def reader_lock(self, version: str) -> FileLock:
        return FileLock(self.path / version / "READER.lock")

    def pointer(self) -> list[str]:
        """The published version, then those kept, the last published first; empty if nothing was published.

        Raises:
            IndexDamaged: the pointer is there and says nothing sensible.
        """
        try:
            lines = (self.path / "CURRENT").read_text(encoding="ascii").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self.damaged(f"CURRENT cannot be read: {error}") from error
        if not lines or not all(map(is_version, lines)):
            raise self.damaged("CURRENT is cut off")
        return lines

    def current(self) -> tuple[VersionInfo, Checksums]:
        """The published version, with the checksums of its files.

        Raises:
            CollectionNotFound: nothing was published.
            IndexDamaged: pointer or facts are damaged.
        """
        while pointer := self.pointer():
            try:
                return self._read_facts(pointer[0])
            except FileNotFoundError as error:
                self.raise_if_current(pointer[0], error)
        raise not_found(self.collection)

    def kept(self, version: str) -> tuple[VersionInfo, Checksums]:
        """A version that is kept, with the checksums of its files.

        Raises:
            CollectionNotFound: nothing was published.
            VersionGone: it is not kept.
            IndexDamaged: pointer or facts are damaged.
        """
        pointer = self.pointer()
        if not pointer:
            raise not_found(self.collection)
        try:
            if version in pointer:
                return self._read_facts(version)
        except FileNotFoundError:
            pass
        raise VersionGone(f"Version {version} of {self.collection!r} is not kept any more", "Search again.")

    def versions(self) -> list[VersionInfo]:
        """The published version and those kept, the last published first; damaged ones are left out."""
        found = []
        for version in self.pointer():
            with suppress(FileNotFoundError, IndexDamaged):
                found.append(self._read_facts(version)[0])
        return found

    def _read_facts(self, version: str) -> tuple[VersionInfo, Checksums]:
        text = (self.version_path(version) / "version.json").read_text(encoding="utf-8")
        try:
            fields: dict[str, Any] = json.loads(text)
            expected = Checksums(dict(fields.pop("checksums")), dict(fields.pop("indexer_checksums", {})))
            fields.pop("vector_checksums", None)  # of versions that were made before there were kept ones
            info = VersionInfo(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damaged(f"version.json of {version} is damaged") from error
        if (info.collection, info.version) != (self.collection, version):
            raise self.damaged(f"version.json of {version} is another version's")
        return info, expected

    def check(self, info: VersionInfo, expected: Mapping[str, int]) -> None:
        """Compare the files of a version's shard with their checksums.

        Raises:
            IndexDamaged: naming the first file that is missing, changed, or one too many.
        """
        found = dict(checksums(self.version_path(info.version) / "shard"))
        if found != expected:
            wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise self.damaged(f"version {info.version}, {wrong[0]} (and {len(wrong) - 1} more files)")

    def check_indexer_files(self, info: VersionInfo, expected: Mapping[str, int]) -> None:
        """Compare vectors and files list of a version with their checksums; without any, nobody can say what they are.

        Raises:
            IndexDamaged: they are not what was published.
            OSError: a file is missing.
        """
        if not expected or dict(indexer_checksums(self.version_path(info.version))) != expected:
            raise self.damaged(f"the vectors of version {info.version}")

    def publish(self, info: VersionInfo, keep: int, base: VersionInfo | None = None) -> None:
        """Bring the folder under construction to the disk, rename it, and point the collection at it."""
        building = self.building_path(info.version)
        expected = Checksums(dict(checksums(building / "shard")), dict(indexer_checksums(building)))
        if base is not None:
            before = self.kept(base.version)[1]
            share_equal(building / "shard", expected.shard, self.version_path(base.version) / "shard", before.shard)
        _write_facts(building, info, expected)
        (building / "READER.lock").touch()
        for folder, _, names in os.walk(building):
            for name in (*names, "."):
                sync(Path(folder) / name)
        building.rename(self.version_path(info.version))
        self._point_at(info, keep)

    def republish(self, info: VersionInfo, keep: int) -> None:
        """Point the collection at a version that is kept, which remembers the facts of ``info`` from now on.

        Raises:
            VersionGone: it is not kept.
        """
        remembered, expected = self.kept(info.version)
        _write_facts(self.version_path(info.version), replace(remembered, facts=info.facts), expected)
        self._point_at(info, keep)

    def _point_at(self, info: VersionInfo, keep: int) -> None:
        others: list[VersionInfo] = []
        with suppress(IndexDamaged):  # this version repairs it
            others = [other for other in self.versions() if other.version != info.version]
        aside = self.path / ".CURRENT"
        aside.write_text("\n".join(retained([info, *others], keep)) + "\n", encoding="ascii")
        sync(aside)
        sync(self.path)
        aside.replace(self.path / "CURRENT")
        sync(self.path)

    def clear_leftovers(self) -> None:
        """Remove what dead writers left. Only for the holder of `writer_lock`."""
        for path in (*self.path.glob(".building-*"), *self.path.glob(".removing-*")):
            shutil.rmtree(path, ignore_errors=True)

    def prune(self) -> None:
        """Remove the versions that no reader can need any more. Only for the holder of `writer_lock`."""
        keep = self.pointer()
        for path in list(self.path.iterdir()):
            if not is_version(path.name) or path.name in keep:
                continue
            lock = self.reader_lock(path.name)
            with suppress(OSError):
                if lock.acquire(create=True):
                    remove_tree(path)
            lock.release()

    def raise_if_current(self, version: str, error: Exception) -> None:
        """Make ``error`` known as damage, unless ``version`` was replaced and removed meanwhile: then look again."""
        if self.pointer()[:1] == [version]:
            raise self.damaged(f"version {version}: {error}") from error

    def damaged(self, what: str) -> IndexDamaged:
        return IndexDamaged(f"The index of {self.collection!r} is damaged: {what}", remedy(self.collection))


def remove_tree(path: Path) -> None:
    """Remove a folder so that nobody ever sees a part of it under its name."""
    aside = path.with_name(f".removing-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _write_facts(folder: Path, info: VersionInfo, expected: Checksums) -> None:
    facts = asdict(info) | {"checksums": expected.shard, "indexer_checksums": expected.indexer}
    aside = folder / ".version.json"
    aside.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    sync(aside)
    aside.replace(folder / "version.json")
    sync(folder)
