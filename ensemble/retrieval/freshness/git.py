"""What git says about a repository, asked of the git binary: it knows worktrees, packed refs, reftables and bare ones.

Nothing here writes to the repository, takes a lock in it, or fetches what a partial clone lacks.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slipstream import InputError
from slipstream.ensemble.retrieval.freshness.blobs import Blobs
from slipstream.ensemble.retrieval.freshness.command import GitFailed, GitMissing, git

SYMLINK, SUBMODULE = "120000", "160000"
"""Modes of an `Entry`."""
_LIST = ("ls-tree", "-r", "-z", "--full-tree")
_REBASING = ("rebase-merge", "rebase-apply")


class NotARepository(InputError):
    """A folder that belongs to no git repository, or that git refuses to look into."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a repository stands.

    Attributes:
        commit: the object id, 40 or 64 hexadecimal digits.
        branch: the checked-out one; None if the head is detached.
        rebasing: a rebase stopped or is under way, so that ``commit`` is a step of it and no result.
    """

    commit: str
    branch: str | None
    rebasing: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit.

    Attributes:
        mode: as git writes it.
        size: in bytes; 0 for a submodule, None for a file whose content is not here (a partial clone).
        path: in bytes.
    """

    mode: str
    oid: str
    size: int | None
    path: bytes


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of a git repository: its top, a folder below, or a bare repository.

    Attributes:
        top: of the working tree, where git is run: a branch may not have the folder; or the bare repository.
        prefix: from there to the folder, with a slash at its end; empty at the top.
    """

    top: Path
    prefix: str = ""

    @classmethod
    def around(cls, folder: Path) -> "Repository":
        """The repository that ``folder`` lies in.

        Raises:
            NotARepository: there is none, or git does not trust its owner.
            GitMissing: there is no git.
        """
        try:
            if _text(git(folder, "rev-parse", "--is-bare-repository")) == "true":
                return cls(Path(_text(git(folder, "rev-parse", "--absolute-git-dir"))))
            top, prefix = (_text(git(folder, "rev-parse", what)) for what in ("--show-toplevel", "--show-prefix"))
            return cls(Path(top), prefix)
        except GitFailed as error:
            raise NotARepository(
                f"{folder} cannot be followed: {error.message}",
                "name the folder of a git repository, or leave --watch out and index it again after a change",
            ) from error

    def head(self) -> Head:
        """
        Raises:
            GitFailed: there is no commit yet, or no repository any more.
        """
        asked = ("HEAD^{commit}", "--symbolic-full-name", "HEAD", "--show-prefix", "--absolute-git-dir")
        try:
            told = git(self.top, "rev-parse", *asked)
        except GitFailed as error:
            if "unknown revision" in error.message:
                raise GitFailed(f"{self.top} has no commit yet", "commit something") from error
            raise
        commit, name, prefix, place = told.split(b"\n", 3)
        if prefix:  # git looked further up
            raise GitFailed(f"{self.top} is no repository any more", "leave it out, or bring it back")
        state, branch = Path(_text(place)), None
        if name.startswith(b"refs/heads/"):
            branch = _name(name.removeprefix(b"refs/heads/"))
        return Head(commit.decode(), branch, any((state / step).exists() for step in _REBASING))

    def tags(self, commit: str) -> tuple[str, ...]:
        """The tags that point at ``commit``, by name."""
        return tuple(map(_name, git(self.top, "tag", "--points-at", commit).split()))

    def is_dirty(self) -> bool:
        """Whether something below the folder differs from the commit, or is neither committed nor ignored."""
        status = (
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--ignore-submodules=all",
            "--",
            self.prefix or ".",
        )
        return bool(git(self.top, *status, settings={"core.fsmonitor": "false", **self._no_filters()}))

    def _no_filters(self) -> dict[str, str]:
        """Settings under which git runs no program to compare a file: who made the repository may have named any."""
        names = map(os.fsdecode, git(self.top, "config", "--list", "--name-only", "-z").split(b"\0"))
        return {
            name: "false" if name.endswith(".required") else ""
            for name in names
            if name.startswith("filter.") and name.endswith((".clean", ".process", ".required"))
        }

    def files(self, commit: str) -> list[Entry]:
        """Every file below the folder as of ``commit``, paths relative to it, by path; none if it is not there.

        Raises:
            GitFailed: the commit is gone.
        """
        tree = f"{commit}:{self.prefix.rstrip('/')}"
        if self.prefix and not self._has(tree):
            self.check(commit)
            return []
        try:
            return _entries(git(self.top, *_LIST, "-l", tree))
        except GitFailed as error:
            if "promisor remote" not in error.message:  # that it may not fetch from
                raise
        return self._here(_entries(git(self.top, *_LIST, tree)), tree)

    def _here(self, entries: Sequence[Entry], tree: str) -> list[Entry]:
        """``entries`` with the sizes of those whose content a partial clone has."""
        reachable = git(self.top, "rev-list", "--objects", "--missing=print", "--no-object-names", tree).split()
        missing = {name[1:].decode() for name in reachable if name.startswith(b"?")}
        asked = [each.oid for each in entries if each.mode != SUBMODULE and each.oid not in missing]
        told = git(self.top, "cat-file", "--batch-check=%(objectsize)", given="".join(f"{oid}\n" for oid in asked))
        sizes = dict(zip(asked, map(int, told.split()), strict=True)) | dict.fromkeys(missing)
        return [replace(each, size=sizes.get(each.oid, 0)) for each in entries]

    def check(self, commit: str) -> None:
        """
        Raises:
            GitFailed: the commit is gone, or the repository is.
        """
        git(self.top, "cat-file", "-e", f"{commit}^{{commit}}")

    def _has(self, name: str) -> bool:
        try:
            git(self.top, "cat-file", "-e", name)
        except GitFailed:
            return False
        return True

    def blobs(self) -> "Blobs":
        return Blobs(self.top)


def _entries(listed: bytes) -> list[Entry]:
    """What ``git ls-tree`` lists, with or without sizes."""
    return [_entry(record) for record in listed.split(b"\0") if record]


def _entry(record: bytes) -> Entry:
    facts, _, path = record.partition(b"\t")
    mode, _, oid, *size = facts.decode().split()
    return Entry(mode, oid, _size(*size), path)


def _size(told: str = "-") -> int | None:
    return None if told == "BAD" else int(told) if told.isdigit() else 0


def _text(output: bytes) -> str:
    """A path."""
    return os.fsdecode(output).removesuffix("\n")


def _name(output: bytes) -> str:
    """Of a branch or a tag: bytes to git, while what is stored and shown has to be text."""
    return output.decode("utf-8", "replace")


__all__ = [
    "SUBMODULE",
    "SYMLINK",
    "Blobs",
    "Entry",
    "GitFailed",
    "GitMissing",
    "Head",
    "NotARepository",
    "Repository",
]
