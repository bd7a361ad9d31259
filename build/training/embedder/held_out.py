"""Packages that must not be trained on, by name: what a benchmark asks about would be known by heart."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from slipstream import InputError
from slipstream.ensemble.retrieval.evaluation.suite import load_suite
from slipstream.ensemble.retrieval.roots import Root

_VERSION = re.compile(r"[-_.]?v?\d+(?:\.\d+)+.*$")


class SourceHeldOut(InputError):
    """A source that was asked for is one of those that are held out."""


class HeldOut:
    """Names of packages; a version behind a name, upper case and ``_.-`` make no difference."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(map(_plain, names))

    def refuse(self, root: Root) -> None:
        """
        Raises:
            SourceHeldOut: ``root`` is called like a package that is held out.
        """
        if taken := {_plain(root.repo), _plain(root.folder.name)} & self.names:
            raise SourceHeldOut(f"{sorted(taken)[0]} is held out from training", "leave it out of the sources")

    def has(self, path: str) -> bool:
        """Whether a folder or the file of ``path`` is called like a package that is held out: a copy of it, maybe."""
        file = PurePosixPath(path)
        return any(_plain(part) in self.names for part in (*file.parts[:-1], file.stem))


def suite_packages(folder: Path) -> set[str]:
    """What the corpora of the suite in ``folder`` are called, here and where they come from.

    Raises:
        SuiteInvalid: there is none.
    """
    corpora = load_suite(folder).corpora
    sources = {corpus.package[0].rsplit("/", 1)[-1] for corpus in corpora if corpus.source is not None}
    return {corpus.name for corpus in corpora} | sources


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", _VERSION.sub("", name)).casefold()


__all__ = ["HeldOut", "SourceHeldOut", "suite_packages"]
