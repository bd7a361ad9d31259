"""What a repository asks to be left out: its ``.gitignore`` files, and the exclusions of its clone."""

import stat
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pathspec import GitIgnoreSpec

from slipstream.ensemble.retrieval.roots import Root, git_top, relative_to

_MAX_BYTES = 1_000_000  # nobody typed what is longer


@dataclass(frozen=True, slots=True)
class Ignore:
    """One ``.gitignore``: its folder and its patterns."""

    folder: str
    spec: GitIgnoreSpec


def inherited(root: Root) -> tuple[Ignore, ...]:
    """The rules of the repository around ``root``; none if they leave out ``root`` itself, which was asked for."""
    top = None if root.is_package else git_top(root.path)
    if top is None:
        return ()
    ignores = read_ignore(top, top / ".git" / "info" / "exclude")
    between = [folder for folder in reversed(root.path.parents) if folder.is_relative_to(top)]
    for folder, child in pairwise([*between, root.path]):
        ignores = (*ignores, *read_ignore(folder, folder / ".gitignore"))
        if is_ignored(str(child), ignores, is_folder=True):
            return ()
    return ignores


def read_ignore(folder: Path, file: Path) -> tuple[Ignore, ...]:
    """The patterns of ``file`` for what lies in ``folder``; none if it cannot be read."""
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:  # git does not follow a link here either
            return ()
        lines = file.read_text("utf-8-sig", "replace").split("\n")
    except OSError:
        return ()
    return (Ignore(str(folder), GitIgnoreSpec.from_lines(filter(_is_pattern, lines))),)


def _is_pattern(line: str) -> bool:
    """Whether pathspec takes it; git passes over what makes no sense, as we do."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def is_ignored(path: str, ignores: tuple[Ignore, ...], *, is_folder: bool) -> bool:
    """What the innermost ``.gitignore`` with a say in it says."""
    for ignore in reversed(ignores):
        relative = relative_to(path, ignore.folder) + ("/" if is_folder else "")
        if (verdict := ignore.spec.check_file(relative).include) is not None:
            return verdict
    return False
