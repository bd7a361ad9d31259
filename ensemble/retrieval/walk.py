"""From roots to the source files worth indexing, with a count of everything that was left out and why."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from slipstream import InputError
from slipstream.ensemble.retrieval.decoding import is_marked
from slipstream.ensemble.retrieval.generated import is_data, is_generated, is_generated_name
from slipstream.ensemble.retrieval.gitignore import Ignore, inherited, is_ignored, read_ignore
from slipstream.ensemble.retrieval.languages import MARKDOWN, language_of
from slipstream.ensemble.retrieval.notebooks import is_notebook, is_readable
from slipstream.ensemble.retrieval.pages import CAVEATS, Caveat
from slipstream.ensemble.retrieval.roots import Root, SourceNotFound, is_there, prefixes, relative_to, resolve_root

__all__ = ["Root", "Skipped", "SourceFile", "SourceNotFound", "resolve_root", "walk"]

MAX_BYTES = 16_000_000
"""Twice sqlite3.c, which has 260,000 lines; what is larger was written by a program, or is not for reading."""
_HEAD_BYTES = 32_768  # read to judge a file; git looks for NUL in 8,000
_LONG_BYTES = 1_000_000

SkipReason = Literal[
    "ignored",
    "binary",
    "generated",
    "too_large",
    "unknown_language",
    "broken_notebook",
    "symlink",
    "symlink_loop",
    "submodule",
    "unreadable",
    "hidden",
]
LEFT_OUT_FOLDERS = frozenset({"node_modules", "__pycache__", "bower_components"})


class Skipped(Counter[SkipReason | Caveat]):
    """How often something was left out, by reason, and how often a file was taken in with less than it might show.

    A folder that is not entered counts once.
    """

    def left_out(self) -> dict[str, int]:
        """By reason, the most frequent first."""
        return {reason: count for reason, count in self.most_common() if reason not in CAVEATS}

    def caveats(self) -> dict[str, int]:
        """Of files that are in the index, by kind, the most frequent first."""
        return {reason: count for reason, count in self.most_common() if reason in CAVEATS}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to index.

    Attributes:
        path: as chunks name it: relative to its root, with ``/``, behind the root's prefix if there are several.
        absolute: where to read it.
        repo: the root's repository.
        size: bytes.
    """

    path: str
    absolute: Path
    repo: str
    size: int

    @property
    def known_content(self) -> str | None:
        """What tells its bytes from others, if that is known without reading them."""
        return None

    def read(self) -> bytes:
        """At most one byte more than `MAX_BYTES`: what was a small regular file may be a log without end now.

        Raises:
            OSError: it cannot be read, or is no regular file any more.
        """
        with os.fdopen(os.open(self.absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(errno.EINVAL, "no regular file", str(self.absolute))
            return stream.read(MAX_BYTES + 1)


def walk(roots: Sequence[Root], skipped: Skipped | None = None) -> Iterator[SourceFile]:
    """The source files below ``roots``, in the same order every time; what is left out is counted in ``skipped``.

    Links are not followed: what they show inside a root is walked where it lies, and what lies outside was not asked
    for (a link in a foreign repository may point at anything).

    Raises:
        InputError: there is no root.
    """
    if not roots:
        raise InputError("nothing to index", "name a folder, a file or pkg:NAME")
    skipped = Skipped() if skipped is None else skipped
    unique = list(dict.fromkeys(roots))
    seen: set[Path] = set()
    for root, prefix in zip(unique, prefixes(unique), strict=True):
        for file in _walk_root(root, prefix, skipped):
            if file.absolute not in seen:  # a root inside another
                seen.add(file.absolute)
                yield file


def _walk_root(root: Root, prefix: str, skipped: Skipped) -> Iterator[SourceFile]:
    if not root.path.is_dir():
        if file := _judge(root.path, prefix + root.path.name, root.repo, skipped):
            yield file
        return
    top = str(root.path)
    work: list[tuple[str, tuple[Ignore, ...]]] = [(top, inherited(root))]
    while work:
        folder, ignores = work.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            skipped["unreadable"] += 1
            continue
        if any(entry.name == ".gitignore" for entry in entries):
            ignores = (*ignores, *read_ignore(Path(folder), Path(folder, ".gitignore")))
        below = []
        for entry in entries:
            if (reason := _left_out(entry, ignores)) is not None:
                skipped[reason] += 1
            elif entry.is_dir(follow_symlinks=False):
                below.append((entry.path, ignores))
            elif file := _judge(Path(entry.path), prefix + relative_to(entry.path, top), root.repo, skipped):
                yield file
        work.extend(reversed(below))


def _left_out(entry: os.DirEntry[str], ignores: tuple[Ignore, ...]) -> SkipReason | None:
    """Why ``entry`` is out for what it is called or where it lies; None if it is not."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        return "symlink_loop" if _is_loop(Path(entry.path)) else "symlink"
    is_folder = entry.is_dir(follow_symlinks=False)
    if is_folder and (entry.name in LEFT_OUT_FOLDERS or is_there(Path(entry.path, "pyvenv.cfg"))):
        return "ignored"
    return "ignored" if is_ignored(entry.path, ignores, is_folder=is_folder) else None


def _is_loop(link: Path) -> bool:
    try:
        return link.parent.is_relative_to(link.resolve(strict=True))
    except RuntimeError:  # a link to itself, before Python 3.13
        return True
    except OSError as error:
        return error.errno == errno.ELOOP


def _judge(path: Path, name: str, repo: str, skipped: Skipped) -> SourceFile | None:
    """The file, or None with its reason counted. No more than its head is read."""
    reason, size = _file_reason(path)
    if reason is None and not is_text(name):
        reason = "unreadable"
    if reason is not None:
        skipped[reason] += 1
        return None
    return SourceFile(name, path, repo, size)


def _file_reason(path: Path) -> tuple[SkipReason | None, int]:
    """Why a file is out for what it is, and its size."""
    if (reason := reason_by_name(path.name)) is not None:
        return reason, 0
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            return "unreadable", 0
        with path.open("rb") as file:
            return reason_by_content(path.name, file, status.st_size), status.st_size
    except OSError:
        return "unreadable", 0


def reason_by_name(name: str) -> SkipReason | None:
    """Why a file called so is out, whatever is in it."""
    if is_generated_name(name):
        return "generated"
    return "unknown_language" if language_of(name) is None and not is_notebook(name) else None


def reason_by_content(name: str, file: BinaryIO, size: int) -> SkipReason | None:
    """Why a file with these ``size`` bytes is out. No more than pieces of it are read.

    Raises:
        OSError: it cannot be read.
    """
    if size > MAX_BYTES:
        return "too_large"
    language = language_of(name)
    if language is None:
        return None if is_readable(file.read(MAX_BYTES)) else "broken_notebook"
    head = file.read(_HEAD_BYTES)
    if b"\0" in head and not is_marked(head):
        return "binary"
    if is_generated(head, is_prose=language is MARKDOWN) or is_data(_samples(file, size)):
        return "generated"
    return None


def _samples(file: BinaryIO, size: int) -> bytes:
    """Of a file too long to have been typed in a day, pieces from a quarter of it on; nothing of others."""
    if size <= _LONG_BYTES:
        return b""
    pieces = []
    for quarter in (1, 2, 3):
        file.seek(size * quarter // 4)
        pieces.append(file.read(_HEAD_BYTES))
    return b"".join(pieces)


def is_text(name: str) -> bool:
    """Whether a file name is Unicode; what Linux lets through besides cannot be stored or shown."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
