"""A golden set: questions whose right answers are known, and what would be wrong to say.

One set is written in YAML. ``sources`` are what is indexed for it (`resolve_root` says how they are named), and
``questions`` a list of `GoldenQuestion`. What is asked at the gate is never calibrated on: each question says which of
the two it is for.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from slipstream import InputError
from slipstream.build.strict_yaml import YAMLError, load_strict, one_line
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.evaluation.queries import Answer
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import resolve_root, walk

SHIPPED = Path(__file__).parent
SAMPLE = "sample:"
Use = Literal["calibration", "gate"]

_TOLD_AT_ONCE = 10
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


class GoldenNotFound(InputError):
    """Neither a file nor the name of a shipped set."""


class GoldenInvalid(InputError):
    """Not YAML, or questions that do not hold together; names the place."""


class GoldenOutdated(InputError):
    """The sources are not those that the answers were written for."""


class GoldSpan(Answer):
    """Lines that answer, and what the index calls them (empty for the rest of a file)."""

    symbol: str


class GoldenQuestion(BaseModel):
    """One question.

    Attributes:
        reference: a right answer in a sentence, for a judge; without one it is not asked about the contexts.
        answers: any one of these is right; a question without them is to be declined.
        expects: words of a right answer, whatever their case: one of them, or each with ``expect: all``.
        forbidden: regular expressions of claims that are wrong, whatever their case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: _Name
    use: Use
    language: Literal["en", "ru"] = "en"
    question: _Words
    reference: str = ""
    answers: tuple[GoldSpan, ...] = ()
    expects: tuple[_Words, ...] = ()
    expect: Literal["any", "all"] = "any"
    forbidden: tuple[_Words, ...] = ()

    @property
    def is_answerable(self) -> bool:
        return bool(self.answers)

    @field_validator("forbidden")
    @classmethod
    def _each_a_pattern(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.answers and (self.expects or self.forbidden or self.reference):
            raise ValueError("a question without answers is to be declined: it expects and forbids nothing")
        if not self.answers and self.use == "calibration":
            raise ValueError("a question without answers has no prompt to calibrate on; ask it at the gate")
        return self


class GoldenSet(BaseModel):
    """Questions about ``sources``, some asked at the gate and some calibrated on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...] = Field(min_length=1)
    questions: tuple[GoldenQuestion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        ids: set[str] = set()
        asked: dict[str, str] = {}
        for one in self.questions:
            if one.id in ids:
                raise ValueError(f"there are two questions {one.id!r}; give one another id")
            ids.add(one.id)
            if (twin := asked.setdefault(" ".join(one.question.casefold().split()), one.id)) != one.id:
                raise ValueError(f"{twin!r} and {one.id!r} ask the same; what is calibrated on cannot be measured on")
        if not any(one.is_answerable for one in self.asked("gate")):
            raise ValueError("no question with answers is asked at the gate; give some of them `use: gate`")
        return self

    def asked(self, use: Use) -> tuple[GoldenQuestion, ...]:
        return tuple(one for one in self.questions if one.use == use)


def shipped_sets() -> list[str]:
    """Names of the sets that come with Slipstream."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_golden(reference: str) -> GoldenSet:
    """Read ``sample:NAME``, or the file at a path.

    Raises:
        GoldenNotFound: there is no such set.
        GoldenInvalid: see there.
    """
    sample = reference.removeprefix(SAMPLE)
    path = SHIPPED / f"{sample}.yaml" if sample != reference else Path(reference)
    try:
        if sample != reference and sample not in shipped_sets():
            raise FileNotFoundError
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe could wait for ever
            raise GoldenInvalid(f"{path} is no file", "a golden set is a YAML file in UTF-8")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        names = ", ".join(SAMPLE + name for name in shipped_sets())
        raise GoldenNotFound(f"there is no golden set {reference!r}", f"give a path, or one of: {names}") from None
    except (OSError, ValueError) as error:
        raise GoldenInvalid(f"{path} cannot be read: {error}", "a golden set is a YAML file in UTF-8") from error
    return parse_golden(text, str(path))


def parse_golden(text: str, origin: str) -> GoldenSet:
    """The set written in ``text``; ``origin`` names it in errors.

    Raises:
        GoldenInvalid: every fault in it, by its place.
    """
    try:
        fields = load_strict(text)
    except YAMLError as error:
        raise GoldenInvalid(f"{origin}: {one_line(error)}", "write each key once, as `key: value`") from error
    except RecursionError as error:
        raise GoldenInvalid(f"{origin} is nested too deeply", _example()) from error
    if not isinstance(fields, dict):
        raise GoldenInvalid(f"{origin} holds no keys", _example())
    try:
        return GoldenSet.model_validate(fields)
    except ValidationError as error:
        faults = [_fault(fields, fault) for fault in error.errors(include_url=False)[:_TOLD_AT_ONCE]]
        raise GoldenInvalid(f"{origin}: " + "; ".join(faults), _example()) from error


def _fault(fields: dict[str, Any], error: Any) -> str:
    """What is wrong, with the question's id in its place where it has one."""
    place = list(map(str, error["loc"]))
    if place[:1] == ["questions"] and len(place) > 1:
        written = fields["questions"][int(place[1])]
        name = written.get("id") if isinstance(written, dict) else None
        place[:2] = [f"question {name!r}" if name else f"question {int(place[1]) + 1}"]
    said = {"extra_forbidden": "is no known key", "missing": "is missing"}.get(error["type"])
    said = said or error["msg"].removeprefix("Value error, ")
    return f"{': '.join(filter(None, ['.'.join(place), said]))}"


def _example() -> str:
    return f"compare it with {SHIPPED / 'fastapi-starlette.yaml'}"


def check_spans(golden: GoldenSet) -> None:
    """Compare every answer with the sources as they are installed here.

    Raises:
        GoldenOutdated: lines that are not there, or that the index calls something else; names all of them.
        SourceNotFound: a source names nothing.
    """
    chunks = chunks_by_path(golden.sources)
    moved = [
        f"{one.id}: {span.path}:{span.line_start}-{span.line_end} is not {span.symbol or 'without a symbol'}"
        for one in golden.questions
        for span in one.answers
        if not any(_is_of(chunk, span) for chunk in chunks.get(span.path, ()))
        or span.line_end > chunks[span.path][-1].line_end
    ]
    if moved:
        raise GoldenOutdated(
            "the golden set is about other sources: " + "; ".join(moved[:_TOLD_AT_ONCE]),
            "install the versions it was written for, or correct its lines",
        )


def chunks_by_path(sources: Sequence[str]) -> dict[str, list[Chunk]]:
    """What an index of ``sources`` holds, in order.

    Raises:
        SourceNotFound: a source names nothing.
    """
    files = walk([resolve_root(source) for source in sources])
    return {file.path: list(chunk_file(file.path, file.absolute.read_bytes(), file.repo)) for file in files}


def answering(golden: GoldenSet, chunks: Iterable[Chunk]) -> frozenset[str]:
    """The texts of those ``chunks`` of the set's sources that hold a line which answers a question of the gate."""
    spans: dict[str, list[GoldSpan]] = {}
    for span in (span for one in golden.asked("gate") for span in one.answers):
        spans.setdefault(span.path, []).append(span)
    return frozenset(chunk.text for chunk in chunks if any(_overlap(chunk, span) for span in spans.get(chunk.path, ())))


def _is_of(chunk: Chunk, span: GoldSpan) -> bool:
    return _overlap(chunk, span) and chunk.symbol == span.symbol


def _overlap(chunk: Chunk, span: GoldSpan) -> bool:
    return chunk.line_start <= span.line_end and span.line_start <= chunk.line_end


__all__ = [
    "GoldSpan", "GoldenInvalid", "GoldenNotFound", "GoldenOutdated", "GoldenQuestion", "GoldenSet", "Use",
    "answering", "check_spans", "chunks_by_path", "load_golden", "parse_golden", "shipped_sets",
]  # fmt: skip
