"""What git says about a repository, asked of the git binary: it knows worktrees, packed refs, reftables and bare ones.

Nothing here writes to the repository, takes a lock in it, or fetches what a partial clone lacks.
"""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from slipstream import EnvironmentFault, InputError

_TIMEOUT_S = 60.0
# What names another repository than the one we point at: set while a hook runs, for example.
_LOCAL = frozenset(
    f"GIT_{name}"
    for name in (
        "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR", "CONFIG", "CONFIG_COUNT", "CONFIG_PARAMETERS", "DIR",
        "GRAFT_FILE", "IMPLICIT_WORK_TREE", "INDEX_FILE", "NAMESPACE", "OBJECT_DIRECTORY", "PREFIX", "REPLACE_REF_BASE",
        "SHALLOW_FILE", "WORK_TREE",
    )
)  # fmt: skip
_REBASING = ("rebase-merge", "rebase-apply")


class GitMissing(EnvironmentFault):
    """There is no git on this machine."""


class NotARepository(InputError):
    """A folder that belongs to no git repository, or that git refuses to look into."""


class GitFailed(EnvironmentFault):
    """git could not answer: no commit yet, objects that are gone, a repository that was removed."""


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
    """A file of a commit: ``mode`` as git writes it, ``size`` in bytes (0 for a submodule), ``path`` in bytes."""

    mode: str
    oid: str
    size: int
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
            if _text(_git(folder, "rev-parse", "--is-bare-repository")) == "true":
                return cls(Path(_text(_git(folder, "rev-parse", "--absolute-git-dir"))))
            top, prefix = (_text(_git(folder, "rev-parse", what)) for what in ("--show-toplevel", "--show-prefix"))
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
            told = _git(self.top, "rev-parse", *asked)
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
        return tuple(map(_name, _git(self.top, "tag", "--points-at", commit).split()))

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
        return bool(_git(self.top, *status, settings={"core.fsmonitor": "false", **self._no_filters()}))

    def _no_filters(self) -> dict[str, str]:
        """Settings under which git runs no program to compare a file: who made the repository may have named any."""
        names = map(os.fsdecode, _git(self.top, "config", "--list", "--name-only", "-z").split(b"\0"))
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
        listed = _git(self.top, "ls-tree", "-r", "-z", "-l", "--full-tree", tree)
        return [_entry(record) for record in listed.split(b"\0") if record]

    def check(self, commit: str) -> None:
        """
        Raises:
            GitFailed: the commit is gone, or the repository is.
        """
        _git(self.top, "cat-file", "-e", f"{commit}^{{commit}}")

    def _has(self, name: str) -> bool:
        try:
            _git(self.top, "cat-file", "-e", name)
        except GitFailed:
            return False
        return True

    def blobs(self) -> "Blobs":
        return Blobs(self.top)


class Blobs:
    """Reads objects through one ``git cat-file --batch``. Not for several threads at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, oid: str) -> bytes:
        """
        Raises:
            OSError: the object is missing (a partial clone, a collected one), or git goes away again and again.
        """
        try:
            return self._ask(oid)
        except _WentAway:
            self.close()
            return self._ask(oid)

    def _ask(self, oid: str) -> bytes:
        if self._process is None:
            command = _command(self._folder, "cat-file", "--batch")
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
            )
        asked, told = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        with suppress(BrokenPipeError):  # reading says so too
            asked.write(oid.encode() + b"\n")
            asked.flush()
        return _answer(told, oid)

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            with suppress(BrokenPipeError):  # of what was asked and not heard
                cast("IO[bytes]", process.stdin).close()
            cast("IO[bytes]", process.stdout).close()
            process.wait()


class _WentAway(OSError):
    """The process ended before it had answered."""


def _answer(told: IO[bytes], oid: str) -> bytes:
    """One answer of ``cat-file --batch``: ``<oid> blob <size>``, the bytes, a line's end."""
    header = told.readline().split()
    if not header:
        raise _WentAway(f"git went away before it sent {oid}")
    if len(header) != 3 or not header[2].isdigit():
        raise OSError(f"git has no object {oid}")
    size = int(header[2])
    data = told.read(size + 1)
    if len(data) != size + 1:
        raise _WentAway(f"git went away while it sent {oid}")
    return data[:-1]


def _entry(record: bytes) -> Entry:
    facts, _, path = record.partition(b"\t")
    mode, _, oid, size = facts.split()
    return Entry(mode.decode(), oid.decode(), int(size) if size.isdigit() else 0, path)


def _git(folder: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> bytes:
    """What git prints under ``settings`` of its configuration.

    Raises:
        GitFailed: with its own words.
        GitMissing: there is no git.
    """
    try:
        done = subprocess.run(
            _command(folder, *arguments),
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=_environment() | _as_environment(settings or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise GitMissing("git is not installed", "install git, or leave --watch out") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(f"git {arguments[0]} in {folder}: {error}", "look at the repository with git") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
        raise GitFailed(f"{folder}: {why or f'git {arguments[0]} failed'}", "look at the repository with git")
    return done.stdout


def _command(folder: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(folder), "--no-optional-locks", *arguments]


def _environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    return mine | {"LC_ALL": "C", "GIT_LITERAL_PATHSPECS": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}


def _as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """``-c NAME=VALUE`` would end a name at its first ``=``."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _text(output: bytes) -> str:
    """A path."""
    return os.fsdecode(output).removesuffix("\n")


def _name(output: bytes) -> str:
    """Of a branch or a tag: bytes to git, while what is stored and shown has to be text."""
    return output.decode("utf-8", "replace")


__all__ = ["Blobs", "Entry", "GitFailed", "GitMissing", "Head", "NotARepository", "Repository"]
