"""Whether golden questions are answered rightly, judged from the answers alone.

An answer passes as it does when a bundle is built (`slipstream.build.golden.scores.failures`): it says one of the
expected words (or all, where the question wants all), nothing that is forbidden, and cites lines that answer. A
question that nothing answers passes when it was declined. It is judged anew here, because the collection and the
server may be others than those of the build, and because a URL has no such record. Marks that name no context are
dropped by the server before a client sees them, so they cannot be counted here.

A server that tells no citations, or grounds no answer (``slipstream-base``, any peer), is judged by the text alone.
Both numbers are kept of every run, so that two servers are held to the same one.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from slipstream.build.strict_yaml import load_strict
from slipstream.loadtest.schedule.prompts import PromptsInvalid, golden_file, read_golden


@dataclass(frozen=True)
class Span:
    """Lines of a file, 1-based and inclusive."""

    path: str
    first: int
    last: int


@dataclass(frozen=True)
class Key:
    """What is right to one question; without ``spans`` it is to be declined."""

    spans: tuple[Span, ...]
    expects: tuple[str, ...]
    all_expected: bool
    forbidden: tuple[str, ...]


@dataclass(frozen=True)
class Quality:
    """Of one run.

    Attributes:
        citing, by_text: mean over the questions of the share of their answers that passed; ``citing`` is None where
            citations cannot be judged.
        questions: that share of each question, by ``citing`` where it is there.
    """

    citing: float | None
    by_text: float | None
    questions: Mapping[str, float]


def read_keys(golden: str) -> dict[str, Key]:
    """What is right, by question, of the golden set ``sample:NAME`` or a file.

    Raises:
        PromptsInvalid: it holds no questions, or none that an answer could be judged by.
    """
    asked = {prompt.id for prompt in read_golden(golden, "chat")}
    path = golden_file(golden)
    try:
        written = load_strict(path.read_text(encoding="utf-8"))["questions"]
        return {one["id"]: _key(one) for one in written if one["id"] in asked}
    except (OSError, ValueError, LookupError, TypeError, re.error) as error:
        raise PromptsInvalid(
            f"{path} has no answers to judge by: {error}", f"compare it with {golden_file('sample:fastapi-starlette')}"
        ) from error


def _key(one: Mapping[str, Any]) -> Key:
    spans = tuple(Span(span["path"], span["line_start"], span["line_end"]) for span in one.get("answers", ()))
    for pattern in one.get("forbidden", ()):
        re.compile(pattern)
    return Key(spans, tuple(one.get("expects", ())), one.get("expect") == "all", tuple(one.get("forbidden", ())))


def judge_answers(keys: Mapping[str, Key], answers: Sequence[Mapping[str, Any]]) -> Quality:
    """How answers fare; one that failed says nothing, so it does not pass.

    Args:
        answers: see `golden.ask_golden`.
    """
    said = [(keys[line["question"]], line["question"], line) for line in answers if line["question"] in keys]
    has_sources = any(line.get("grounded") is True for _, _, line in said)
    citing = _shares([(name, passes(key, line)) for key, name, line in said]) if has_sources else {}
    by_text = _shares([(name, _says(key, line["text"])) for key, name, line in said if key.spans])
    return Quality(
        citing=fmean(citing.values()) if citing else None,
        by_text=fmean(by_text.values()) if by_text else None,
        questions=citing or by_text,
    )


def passes(key: Key, line: Mapping[str, Any]) -> bool:
    """Whether an answer with its sources is right."""
    grounded = line.get("grounded") is True
    if not key.spans:
        return not grounded and "error" not in line
    return grounded and _says(key, line["text"]) and any(_shows(key, one) for one in line.get("citations") or ())


def _says(key: Key, text: str) -> bool:
    if not text.strip() or any(re.search(pattern, text, re.IGNORECASE) for pattern in key.forbidden):
        return False
    found = [fact.casefold() in text.casefold() for fact in key.expects]
    return all(found) if key.all_expected or not found else any(found)


def _shows(key: Key, citation: Any) -> bool:
    """Whether it cites a line that answers."""
    try:
        path, first, last = citation["path"], int(citation["line_start"]), int(citation["line_end"])
    except (LookupError, TypeError, ValueError):
        return False
    return any(span.path == path and span.first <= last and first <= span.last for span in key.spans)


def _shares(judged: Sequence[tuple[str, bool]]) -> dict[str, float]:
    """Of each question, however often it was asked."""
    by_question = defaultdict[str, list[bool]](list)
    for name, passed in judged:
        by_question[name].append(passed)
    return {name: fmean(passed) for name, passed in sorted(by_question.items())}


__all__ = ["Key", "Quality", "Span", "judge_answers", "passes", "read_keys"]
