"""What is measured of one golden answer without asking anybody."""

import re
from collections.abc import Iterator

from slipstream.build.golden.answers import GoldenAnswer
from slipstream.build.golden.contexts import GoldenContext, GoldenPrompt
from slipstream.build.golden.questions import GoldenQuestion, GoldSpan
from slipstream.ensemble.citations import cited_numbers

_Line = tuple[str, int]


def citation_problems(prompt: GoldenPrompt, answer: GoldenAnswer) -> dict[int, str]:
    """Number of each distinct mark that the engine wrote -> why it is invalid, empty if it is valid.

    A citation is valid when its context was in the prompt, and holds what stands on those lines of a file of the
    indexed version. Marks count as the engine wrote them: those that serving drops before a client sees them, too.
    """
    return {number: _problem(number, prompt) for number in cited_numbers(answer.raw)} if answer.token_ids else {}


def _problem(number: int, prompt: GoldenPrompt) -> str:
    if not 1 <= number <= len(prompt.contexts):
        return f"[{number}] names none of the {len(prompt.contexts)} contexts"
    return prompt.contexts[number - 1].problem


def context_recall(prompt: GoldenPrompt) -> float | None:
    """The share of the best answered span's lines that the contexts show; None for a question without answers.

    Any one span answers, so the best covered one counts; a line counts once, however many contexts show it.
    """
    shown = {line for context in prompt.contexts for line in _lines(context)}
    return max((_covered(span, shown) for span in prompt.question.answers), default=None)


def _covered(span: GoldSpan, shown: set[_Line]) -> float:
    wanted = set(_lines(span))
    return len(wanted & shown) / len(wanted)


def _lines(place: GoldSpan | GoldenContext) -> Iterator[_Line]:
    return ((place.path, line) for line in range(place.line_start, place.line_end + 1))


def cites_gold(prompt: GoldenPrompt, answer: GoldenAnswer) -> bool:
    """Whether one of the contexts that the served text cites shows a line that answers."""
    cited = [prompt.contexts[number - 1] for number in answer.cited if 1 <= number <= len(prompt.contexts)]
    gold = {line for span in prompt.question.answers for line in _lines(span)}
    return any(not gold.isdisjoint(_lines(context)) for context in cited)


def forbidden_claims(question: GoldenQuestion, text: str) -> list[str]:
    """What ``text`` says and should not, as it says it."""
    found = (re.search(pattern, text, re.IGNORECASE) for pattern in question.forbidden)
    return [match[0] for match in found if match is not None]


def missing_facts(question: GoldenQuestion, text: str) -> list[str]:
    """What ``text`` should say and does not; where one of the facts is enough, all of them or none."""
    said = text.casefold()
    missing = [fact for fact in question.expects if fact.casefold() not in said]
    return missing if question.expect == "all" or len(missing) == len(question.expects) else []


def failures(prompt: GoldenPrompt, answer: GoldenAnswer) -> list[str]:
    """Why an answer does not pass; it passes when there is nothing to say.

    With answers in the sources it passes when it says something, cites a line that answers, says what is expected and
    nothing that is forbidden, and each of its citations is valid. Without, it passes when the search declined it.
    """
    question = prompt.question
    if not question.is_answerable:
        return [] if prompt.declined else ["answered, though nothing answers it"]
    if prompt.declined:
        return ["declined, though it can be answered"]
    if not answer.text.strip():
        return ["said nothing"]
    said = [problem for problem in citation_problems(prompt, answer).values() if problem]
    if not cites_gold(prompt, answer):
        said.append("cites no line that answers" if answer.cited else "cites nothing")
    said += [f"claims {claim!r}" for claim in forbidden_claims(question, answer.text)]
    if missing := missing_facts(question, answer.text):
        said.append(f"says nothing of {' or '.join(missing) if question.expect == 'any' else ', '.join(missing)}")
    return said


__all__ = [
    "citation_problems", "cites_gold", "context_recall", "failures", "forbidden_claims", "missing_facts",
]  # fmt: skip
