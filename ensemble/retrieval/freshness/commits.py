"""The files of a commit, read from git's objects: what happens to the working tree meanwhile does not matter.

They are judged as `walk` judges files on the disk. ``.gitignore`` has no say in what was committed.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath

from slipstream.ensemble.retrieval.freshness.git import (
    SUBMODULE,
    SYMLINK,
    Blobs,
    Entry,
    GitFailed,
    GitMissing,
    NotARepository,
    Repository,
)
from slipstream.ensemble.retrieval.freshness.revisions import Revision
from slipstream.ensemble.retrieval.roots import Root, prefixes
from slipstream.ensemble.retrieval.walk import (
    LEFT_OUT_FOLDERS,
    MAX_BYTES,
    Skipped,
    SkipReason,
    SourceFile,
    is_text,
    reason_by_content,
    reason_by_name,
)


@dataclass(frozen=True, slots=True)
class CommittedFile(SourceFile):
    """A file of a commit; ``absolute`` is where it would lie if that commit were checked out."""

    oid: str
    blobs: Blobs = field(compare=False)

    @property
    def known_content(self) -> str | None:
        return f"git:{self.oid}"

    def read(self) -> bytes:
        return self.blobs.read(self.oid)


class Followed:
    """A root in a git repository.

    Raises:
        NotARepository: it lies in none, or is no folder.
        GitMissing: there is no git.
    """

    def __init__(self, root: Root) -> None:
        if root.is_package or not root.path.is_dir():
            raise NotARepository(
                f"{root.path} cannot be followed: it is {'an installed package' if root.is_package else 'a file'}",
                "name the folder of a git repository, or leave --watch out",
            )
        self.root = root
        self.repository = Repository.around(root.path)
        self.judged: dict[tuple[str, str], SkipReason | None] = {}

    def judge(self, name: str, entry: Entry, blobs: Blobs) -> SkipReason | None:
        """Why a file is out for what it is; its content is read once in the life of this object."""
        if (reason := reason_by_name(name)) is not None:
            return reason
        if entry.size is None:
            return "unreadable"
        key = (name, entry.oid)
        if key not in self.judged:
            try:
                data = blobs.read(entry.oid) if entry.size <= MAX_BYTES else b""
                self.judged[key] = reason_by_content(name, BytesIO(data), entry.size)
            except OSError:  # not remembered: a fetch may bring it
                return "unreadable"
        return self.judged[key]


class Commits:
    """The sources of a version: one commit of each root. A context manager, which ends the git processes it started."""

    def __init__(self, followed: Sequence[Followed], revisions: Sequence[Revision]) -> None:
        self._followed = followed
        self._revisions = revisions
        self._blobs = [each.repository.blobs() for each in followed]
        self.names: Sequence[tuple[str, Path]] = [(str(each.root.path), each.root.path) for each in followed]

    def revisions(self) -> list[Revision]:
        return list(dict.fromkeys(self._revisions))

    def files(self, skipped: Skipped) -> Iterator[SourceFile]:
        """
        Raises:
            GitFailed: a commit is gone.
        """
        seen: set[Path] = set()
        starts = prefixes([each.root for each in self._followed])
        for each, revision, blobs, start in zip(self._followed, self._revisions, self._blobs, starts, strict=True):
            entries = each.repository.files(revision.commit)
            for name, entry in _entered(entries, skipped):
                reason = each.judge(PurePosixPath(name).name, entry, blobs)
                place = each.root.path / name
                if reason is not None:
                    skipped[reason] += 1
                elif place not in seen:  # a root inside another
                    seen.add(place)
                    yield CommittedFile(start + name, place, each.root.repo, entry.size or 0, entry.oid, blobs)

    def confirm(self) -> None:
        for each, revision in zip(self._followed, self._revisions, strict=True):
            each.repository.check(revision.commit)

    def close(self) -> None:
        for blobs in self._blobs:
            blobs.close()


def revision_of(root: Root) -> Revision | None:
    """The commit that the working tree of ``root`` is at; None outside git, or if there is none to ask."""
    if root.is_package:
        return None
    try:
        repository = Repository.around(root.folder)
        head = repository.head()
        tags = repository.tags(head.commit)
        return Revision(root.repo, head.commit, head.branch, tags, repository.is_dirty())
    except (NotARepository, GitFailed, GitMissing):
        return None


def _entered(entries: Sequence[Entry], skipped: Skipped) -> Iterator[tuple[str, Entry]]:
    """The regular files outside folders that are left out; such a folder counts once."""
    environments = {PurePosixPath(os.fsdecode(e.path)).parent for e in entries if e.path.endswith(b"pyvenv.cfg")}
    counted: set[PurePosixPath] = set()
    for entry in entries:
        name = os.fsdecode(entry.path)
        out = _left_out(PurePosixPath(name), entry.mode, environments)
        if out is None:
            yield name, entry
        elif out[1] not in counted:
            counted.add(out[1])
            skipped[out[0]] += 1


def _left_out(
    path: PurePosixPath, mode: str, environments: set[PurePosixPath]
) -> tuple[SkipReason, PurePosixPath] | None:
    """Why a path is out for its name or kind, and the folder or file that this is about."""
    for folder in (*reversed(path.parents[:-1]), path):
        if folder.name.startswith("."):
            return "hidden", folder
        if folder != path and (folder.name in LEFT_OUT_FOLDERS or folder in environments):
            return "ignored", folder
    if mode in (SYMLINK, SUBMODULE):
        return ("symlink" if mode == SYMLINK else "submodule"), path
    return None if is_text(str(path)) else ("unreadable", path)


__all__ = ["Commits", "CommittedFile", "Followed", "revision_of"]
