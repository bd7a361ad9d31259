"""A suite: which corpora are searched, and how many docstrings of each become queries. ``suite.yaml``, typed."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from slipstream import InputError

SUITE = "suite.yaml"

Ecosystem = Literal["pypi", "npm", "debian", "path"]
Split = Literal["development", "test"]

_SOURCES = {
    "pypi": re.compile(r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"),
    "npm": re.compile(r"npm:(?P<name>(?:@[a-z0-9._-]+/)?[a-z0-9][a-z0-9._-]*)@(?P<version>\d[A-Za-z0-9.+-]*)"),
    "debian": re.compile(r"debian:(?P<name>[a-z0-9][a-z0-9+.-]+)=(?P<version>[A-Za-z0-9][A-Za-z0-9.+:~-]*)"),
}

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=64)]


class SuiteInvalid(InputError):
    """A suite's file is missing, or says what cannot be."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Corpus(_Strict):
    """One package or folder.

    Attributes:
        name: what its paths begin with.
        source: ``pypi:NAME==VERSION``, ``npm:NAME@VERSION`` or ``debian:NAME=VERSION``; or else
        path: a local folder, relative to the suite's.
        sha256: of the archive that ``source`` names.
        top: the folder inside the archive that is taken.
        include, exclude: patterns as in ``.gitignore``, relative to ``top`` or ``path``.
    """

    name: _Name
    split: Split = "test"
    source: str | None = None
    path: Path | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    top: str = "."
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.source is None) == (self.path is None):
            raise ValueError("give either source or path")
        if self.source is not None and not any(form.fullmatch(self.source) for form in _SOURCES.values()):
            raise ValueError("write source as pypi:NAME==VERSION, npm:NAME@VERSION or debian:NAME=VERSION")
        if (self.source is None) != (self.sha256 is None):
            raise ValueError("a source needs a sha256, and a path has none")
        if self.top.startswith("/") or ".." in self.top.split("/"):
            raise ValueError("top is a folder inside the archive")
        return self

    @property
    def ecosystem(self) -> Ecosystem:
        return next((kind for kind in ("pypi", "npm", "debian") if (self.source or "").startswith(f"{kind}:")), "path")

    @property
    def package(self) -> tuple[str, str]:
        """Name and version that ``source`` names."""
        match = _SOURCES[self.ecosystem].fullmatch(self.source or "")
        if match is None:
            raise ValueError(f"{self.name} has no source")
        return match["name"], match["version"]


class Docstrings(_Strict):
    """How many docstrings of each corpus become queries, and which: the same seed takes the same ones."""

    per_corpus: Annotated[int, Field(ge=0, le=10_000)] = 40
    seed: int = 7


class Suite(_Strict):
    """What ``suite.yaml`` holds."""

    corpora: Annotated[tuple[Corpus, ...], Field(min_length=1)]
    docstrings: Docstrings = Docstrings()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [corpus.name for corpus in self.corpora]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one corpus is called {', '.join(twice)}")
        return self

    def narrowed(self, only: tuple[str, ...], skip: tuple[str, ...]) -> "Suite":
        """The suite with the corpora of some ecosystems.

        Raises:
            SuiteInvalid: none is left.
        """
        kept = [
            corpus for corpus in self.corpora if (not only or corpus.ecosystem in only) and corpus.ecosystem not in skip
        ]
        if not kept:
            raise SuiteInvalid("no corpus is left after --only and --skip", "leave one ecosystem in")
        return self.model_copy(update={"corpora": tuple(kept)})


def load_suite(folder: Path) -> Suite:
    """Read ``folder/suite.yaml``.

    Raises:
        SuiteInvalid: missing, no YAML, or a value that cannot be; names the first.
    """
    file = folder / SUITE
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteInvalid(f"cannot read {file}: {error}", "name a folder that holds a suite.yaml") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SuiteInvalid(f"{place} is no YAML: {reason}", "correct it and run this again") from error
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise SuiteInvalid(f"{file}: {place}: {first['msg']}", "correct it and run this again") from error


__all__ = ["SUITE", "Corpus", "Docstrings", "Ecosystem", "Split", "Suite", "SuiteInvalid", "load_suite"]
