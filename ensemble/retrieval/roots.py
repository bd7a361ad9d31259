"""Where source comes from: a folder, one file, or an installed package; and what its repository is called."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import PathFinder
from itertools import permutations
from pathlib import Path

from slipstream import InputError

PACKAGE_PREFIX = "pkg:"
_REMOTE = re.compile(r'\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


class SourceNotFound(InputError):
    """There is nothing to index where the caller pointed."""


@dataclass(frozen=True, slots=True)
class Root:
    """What one argument of ``slipstream index`` names.

    Attributes:
        path: an absolute folder or file, links resolved.
        repo: the name of its git remote, else of its folder; of an installed package, the package's name.
        is_package: it was named as ``pkg:NAME``, so no repository around it has a say in it.
    """

    path: Path
    repo: str
    is_package: bool = False

    @property
    def folder(self) -> Path:
        """What paths are relative to."""
        return self.path if self.path.is_dir() else self.path.parent


def resolve_root(argument: str) -> Root:
    """A folder, a single file, or ``pkg:NAME``: an installed package by its import or its distribution name.

    Raises:
        SourceNotFound: nothing is there, or this user may not read it.
    """
    if argument.startswith(PACKAGE_PREFIX):
        return _installed(argument.removeprefix(PACKAGE_PREFIX))
    try:
        path = Path(argument).expanduser().resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no such user, a NUL in the name
        raise SourceNotFound(f"cannot open {argument!r}: {error}", "name a folder, a file or pkg:NAME") from error
    if not argument or not exists:
        raise SourceNotFound(f"no such file or folder: {argument!r}", "name a folder, a file or pkg:NAME")
    if not os.access(path, os.R_OK):
        raise SourceNotFound(f"may not read {argument!r}", "name what this user may read, or change its permissions")
    return Root(path, _repository_name(path))


def prefixes(roots: Sequence[Root]) -> list[str]:
    """What paths of each root begin with: nothing for one root, else its folder's name, longer where two share one.

    A byte of a name that is not Unicode is spelled out, as ``\\xe9``.
    """
    if len(roots) == 1:
        return [""]
    parts = [
        tuple(os.fsencode(part).decode("utf-8", "backslashreplace") for part in root.folder.parts) for root in roots
    ]
    taken = [1] * len(roots)
    while True:
        names = ["/".join(part[-count:]).lstrip("/") + "/" for part, count in zip(parts, taken, strict=True)]
        clashing = {
            index
            for index, other in permutations(range(len(roots)), 2)
            if parts[index] != parts[other]
            and (names[index].startswith(names[other]) or names[other].startswith(names[index]))
        }
        longer = [index for index in clashing if taken[index] < len(parts[index])]
        if not longer:
            return names
        for index in longer:
            taken[index] += 1


def _installed(name: str) -> Root:
    """The folder (or the one file) of an installed package, found without importing it."""
    remedy = f"install it (pip install {name}) or name its folder"
    top, *rest = name.split(".")
    candidates = [top.replace("-", "_"), *_top_level_modules(name)] if re.fullmatch(r"[\w.-]+", name) else []
    for module in candidates:
        spec = PathFinder.find_spec(module)
        if spec is None:
            continue
        for place in spec.submodule_search_locations or [spec.origin or ""]:
            path = Path(place).joinpath(*(rest if module == top else ()))
            if place and is_there(path):
                return Root(path.resolve(), name, is_package=True)
    raise SourceNotFound(f"no installed package is called {name!r}", remedy)


def _top_level_modules(distribution: str) -> list[str]:
    """The modules that an installed distribution puts on the path, the largest first (``pyyaml`` gives ``yaml``)."""
    try:
        files = metadata.files(distribution) or []
    except (metadata.PackageNotFoundError, ValueError):
        return []
    counts: dict[str, int] = {}
    for file in files:
        if file.suffix == ".py" and not file.parts[0].startswith(".."):
            top = file.parts[0].removesuffix(".py")
            counts[top] = counts.get(top, 0) + 1
    return sorted(counts, key=lambda module: (-counts[module], module))


def _repository_name(path: Path) -> str:
    """The last part of the remote's URL, which is all of it that holds no host and no password; else the folder.

    A folder's name need not be Unicode; what is stored and shown has to be.
    """
    folder = path if path.is_dir() else path.parent
    top = git_top(folder)
    if top is not None and (remote := _REMOTE.search(_git_config(top / ".git"))):
        name = re.split(r"[/:]", remote[1].rstrip("/"))[-1].removesuffix(".git")
        if name:
            return name
    return os.fsencode((top or folder).name).decode("utf-8", "replace") or "root"


def is_there(path: Path) -> bool:
    """Whether something is at ``path`` that this user may know of (`Path.exists` raises where it may not look)."""
    try:
        return path.exists()
    except OSError:  # no permission, a path that is too long
        return False


def git_top(folder: Path) -> Path | None:
    """The working tree that ``folder`` lies in."""
    return next((place for place in (folder, *folder.parents) if is_there(place / ".git")), None)


def _git_config(git: Path) -> str:
    """The text of a repository's configuration; a worktree's and a submodule's ``.git`` is a file that points to it."""
    try:
        if git.is_file():
            git = git.parent / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
            if (git / "commondir").is_file():
                git = git / (git / "commondir").read_text(encoding="utf-8").strip()
        return (git / "config").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def relative_to(path: str, folder: str) -> str:
    """``path``, which is below ``folder``, as seen from there, with ``/``."""
    return path[len(folder.rstrip("/")) + 1 :].replace(os.sep, "/")
