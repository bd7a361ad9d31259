"""The golden set's result: a row for each question, and what a gate looks at."""

from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from slipstream.build.golden.answers import GoldenAnswer, GoldenAnswers
from slipstream.build.golden.contexts import GoldenPrompt
from slipstream.build.golden.metrics import case_of, golden_metrics
from slipstream.build.golden.scores import citation_problems


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GoldenRow(_Row):
    """One question.

    Attributes:
        failures: why it did not pass; nothing if it did.
        citations: distinct marks that the engine wrote, ``valid_citations`` of which are valid.
        context_recall: None where nothing answers the question.
        answer_tokens: None where no engine was asked.
        forbidden: claims that are wrong.
    """

    question_id: str
    language: str
    question: str
    answer: str
    declined: bool
    passed: bool
    failures: str
    citations: int
    valid_citations: int
    context_recall: float | None
    forbidden: bool
    prompt_tokens: int
    answer_tokens: int | None
    cut: bool


class GoldenReport(_Row):
    """All questions of the gate.

    Attributes:
        pass_rate: share of questions that passed, declined ones among them where nothing answers (`scores.failures`).
        citation_validity: share of all citations that are valid; None where nothing was cited.
        context_recall: mean over the questions that have answers.
        answer_tokens: mean over the answers that the engine gave; None if it gave none.
        wall_s: from the first question to the end of the last answer.
    """

    rows: tuple[GoldenRow, ...]
    pass_rate: float
    citation_validity: float | None
    context_recall: float | None
    answer_tokens: float | None
    forbidden_claims: int
    declined_answerable: int
    streams: int
    wall_s: float


def evaluate(prompts: Sequence[GoldenPrompt], answers: GoldenAnswers) -> GoldenReport:
    """Measure ``answers`` to ``prompts``, in the same order, with every deterministic metric.

    Raises:
        DeepEvalMissing: it is not installed.
        ValueError: the answers are to other questions, or there are none.
    """
    if not prompts or [one.question.id for one in prompts] != [one.question_id for one in answers.answers]:
        raise ValueError("answers are measured on the prompts they were given to")
    rows = tuple(_row(prompt, answer) for prompt, answer in zip(prompts, answers.answers, strict=True))
    citations = sum(row.citations for row in rows)
    return GoldenReport(
        rows=rows,
        pass_rate=fmean(row.passed for row in rows),
        citation_validity=sum(row.valid_citations for row in rows) / citations if citations else None,
        context_recall=_mean([row.context_recall for row in rows]),
        answer_tokens=_mean([row.answer_tokens for row in rows]),
        forbidden_claims=sum(row.forbidden for row in rows),
        declined_answerable=sum(row.declined and row.context_recall is not None for row in rows),
        streams=answers.streams,
        wall_s=answers.wall_s,
    )


def length_change(report: GoldenReport, reference: GoldenReport) -> float | None:
    """How much longer the mean answer is than ``reference``'s, as a share (negative: shorter); None without answers."""
    if report.answer_tokens is None or not reference.answer_tokens:
        return None
    return report.answer_tokens / reference.answer_tokens - 1


def _row(prompt: GoldenPrompt, answer: GoldenAnswer) -> GoldenRow:
    metrics, case = golden_metrics(), case_of(prompt, answer)
    for metric in vars(metrics).values():
        metric.measure(case)
    problems = citation_problems(prompt, answer)
    return GoldenRow(
        question_id=prompt.question.id,
        language=prompt.question.language,
        question=prompt.question.question,
        answer=answer.text,
        declined=bool(prompt.declined),
        passed=metrics.golden_pass.score == 1,
        failures="" if metrics.golden_pass.score == 1 else str(metrics.golden_pass.reason),
        citations=len(problems),
        valid_citations=round((metrics.citation_validity.score or 0.0) * len(problems)),
        context_recall=metrics.context_recall.score,
        forbidden=metrics.forbidden_claims.score == 0,
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=len(answer.token_ids) if answer.prompt_tokens else None,
        cut=answer.finish == "length",
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


__all__ = ["GoldenReport", "GoldenRow", "evaluate", "length_change"]
