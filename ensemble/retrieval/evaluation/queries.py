"""Queries and their right answers; the questions that people wrote, read and checked."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from slipstream.ensemble.retrieval.evaluation.suite import Split, Suite, SuiteInvalid

QUESTIONS, UNANSWERABLE = "questions.jsonl", "unanswerable.jsonl"

QueryKind = Literal["docstring", "question", "unanswerable"]
QueryLanguage = Literal["en", "ru"]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
_Read = TypeVar("_Read", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(_Strict):
    """Lines of a file that answer; 1-based, inclusive. ``path`` begins with the corpus's name."""

    path: str
    line_start: Annotated[int, Field(ge=1)]
    line_end: int

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.line_end < self.line_start:
            raise ValueError("line_end is before line_start")
        return self


class Query(_Strict):
    """What is asked, and where it is answered; any one of ``answers`` is right, and nothing is if there are none.

    Attributes:
        pair: id of the query that asks the same in the other language.
    """

    id: str
    kind: QueryKind
    language: QueryLanguage
    split: Split
    text: str
    answers: tuple[Answer, ...]
    pair: str | None = None


class _Unanswerable(_Strict):
    id: str
    language: QueryLanguage
    text: _Text
    split: Split = "test"


class _Question(_Strict):
    id: str
    package: str
    language: QueryLanguage
    text: _Text
    pair: str | None = None
    answers: Annotated[tuple[Answer, ...], Field(min_length=1)]


def read_questions(folder: Path, suite: Suite, everything: Suite) -> dict[str, Query]:
    """The questions of ``folder`` about the corpora of ``suite``, each by its file and line; none without such a file.

    Args:
        everything: the suite before any of its corpora was left out.

    Raises:
        SuiteInvalid: with file and line of what is wrong.
    """
    splits = {corpus.name: corpus.split for corpus in suite.corpora}
    known = {corpus.name for corpus in everything.corpora}
    queries: dict[str, Query] = {}
    pairs: dict[str, tuple[str, str]] = {}
    ids: set[str] = set()
    for place, line in _lines(folder / QUESTIONS):
        question = _parsed(_Question, line, place)
        if question.id in ids:
            raise SuiteInvalid(f"{place}: there are two questions {question.id!r}", "give one another id")
        ids.add(question.id)
        if question.package not in known:
            raise SuiteInvalid(f"{place}: no corpus is called {question.package!r}", "name one of suite.yaml")
        if question.pair is not None:
            pairs[place] = question.id, question.pair
        if question.package in splits:
            fields = question.model_dump(exclude={"package"})
            queries[place] = Query(kind="question", split=splits[question.package], **fields)
    for place, (name, pair) in pairs.items():
        if pair not in ids or pair == name:
            raise SuiteInvalid(f"{place}: its pair {pair!r} is no other question", "correct the id")
    return queries


def check_answers(questions: Mapping[str, Query], files: Mapping[str, list[str]]) -> None:
    """
    Args:
        questions: by their place, as `read_questions` gives them.
        files: path -> lines, of the collection as it is indexed.

    Raises:
        SuiteInvalid: an answer is not in the collection.
    """
    for place, question in questions.items():
        for answer in question.answers:
            _check(answer, files, place)


def read_unanswerable(folder: Path) -> list[Query]:
    """The questions of ``folder`` that nothing in its corpora answers; none if there is no such file.

    Raises:
        SuiteInvalid: with file and line of what is wrong.
    """
    found: dict[str, Query] = {}
    for place, line in _lines(folder / UNANSWERABLE):
        question = _parsed(_Unanswerable, line, place)
        if question.id in found:
            raise SuiteInvalid(f"{place}: there are two questions {question.id!r}", "give one another id")
        found[question.id] = Query(kind="unanswerable", answers=(), **question.model_dump())
    return list(found.values())


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteInvalid(f"cannot read {file}: {error}", "write it in UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", line


def _parsed(model: type[_Read], line: str, place: str) -> _Read:
    try:
        return model.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise SuiteInvalid(f"{place}: {reason}", "correct the line")


def _check(answer: Answer, files: Mapping[str, list[str]], place: str) -> None:
    lines = files.get(answer.path)
    if lines is None:
        raise SuiteInvalid(f"{place}: the collection has no file {answer.path}", "a path begins with its corpus's name")
    if answer.line_end > len(lines):
        raise SuiteInvalid(f"{place}: {answer.path} has {len(lines)} lines, not {answer.line_end}", "correct the lines")
    if not any(line.strip() for line in lines[answer.line_start - 1 : answer.line_end]):
        raise SuiteInvalid(
            f"{place}: {answer.path}:{answer.line_start}-{answer.line_end} holds nothing",
            "name lines that answer",
        )


__all__ = ["QUESTIONS", "UNANSWERABLE", "Answer", "Query", "QueryKind", "QueryLanguage", "check_answers",
           "read_questions", "read_unanswerable"]  # fmt: skip
