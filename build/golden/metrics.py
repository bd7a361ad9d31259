"""The deterministic measures of a golden answer as DeepEval metrics: they need no judge and always run.

A test case carries the prompt and the answer in its ``metadata``, so each metric scores what was really asked and
picked, not a rendering of it. The classes are made on first use, for DeepEval takes seconds to import.
"""

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from slipstream.build.golden import scores
from slipstream.build.golden.answers import GoldenAnswer
from slipstream.build.golden.contexts import GoldenPrompt
from slipstream.build.golden.deepeval_quietly import quieten_deepeval
from slipstream.ensemble.prompt import render_context

if TYPE_CHECKING:
    from deepeval.test_case import LLMTestCase

PROMPT, ANSWER = "prompt", "answer"


def case_of(prompt: GoldenPrompt, answer: GoldenAnswer) -> "LLMTestCase":
    """One question with its answer, for these metrics and for those of a judge."""
    quieten_deepeval()
    from deepeval.test_case import LLMTestCase

    return LLMTestCase(
        name=prompt.question.id,
        input=prompt.question.question,
        actual_output=answer.text,
        expected_output=prompt.question.reference or None,
        retrieval_context=[render_context(number, context) for number, context in enumerate(prompt.contexts, 1)],
        metadata={PROMPT: prompt.model_dump(mode="json"), ANSWER: answer.model_dump(mode="json")},
    )


def golden_metrics() -> "SimpleNamespace":
    """One of each: ``citation_validity``, ``context_recall``, ``forbidden_claims`` and ``golden_pass``."""
    types = _types()
    return SimpleNamespace(**{name: kind() for name, kind in vars(types).items()})


@cache
def _types() -> SimpleNamespace:
    quieten_deepeval()
    from deepeval.metrics import BaseMetric

    class Deterministic(BaseMetric):  # type: ignore[misc]  # see pyproject.toml
        """Scores by counting. ``score`` is None and the metric skipped where there is nothing to count."""

        threshold: float | None = 1.0
        async_mode = False
        include_reason = True
        title = ""

        def measure(self, test_case: Any, *args: Any, **kwargs: Any) -> float | None:
            prompt = GoldenPrompt.model_validate(test_case.metadata[PROMPT])
            answer = GoldenAnswer.model_validate(test_case.metadata[ANSWER])
            self.error = None
            self.score: float | None
            self.score, self.reason = self.count(prompt, answer)
            self.skipped = self.score is None
            self.success = self.skipped or self.is_successful()
            return self.score

        async def a_measure(self, test_case: Any, *args: Any, **kwargs: Any) -> float | None:
            return self.measure(test_case)

        def count(self, prompt: GoldenPrompt, answer: GoldenAnswer) -> tuple[float | None, str]:
            raise NotImplementedError

        @property
        def __name__(self) -> str:
            return self.title

    class CitationValidity(Deterministic):
        """The share of the marks the engine wrote that are valid (`scores.citation_problems`)."""

        title = "Citation Validity"

        def count(self, prompt: GoldenPrompt, answer: GoldenAnswer) -> tuple[float | None, str]:
            problems = scores.citation_problems(prompt, answer)
            if not problems:
                return None, "no citation"
            wrong = [problem for problem in problems.values() if problem]
            return 1 - len(wrong) / len(problems), "; ".join(wrong) or f"{len(problems)} valid"

    class ContextRecall(Deterministic):
        """The share of the answering lines that the contexts show (`scores.context_recall`)."""

        title = "Context Recall (lines)"
        threshold = None

        def count(self, prompt: GoldenPrompt, answer: GoldenAnswer) -> tuple[float | None, str]:
            recall = scores.context_recall(prompt)
            return (None, "nothing answers it") if recall is None else (recall, f"{recall:.0%} of the lines")

    class ForbiddenClaims(Deterministic):
        """1 if the answer makes none of the forbidden claims."""

        title = "Forbidden Claims"

        def count(self, prompt: GoldenPrompt, answer: GoldenAnswer) -> tuple[float | None, str]:
            claims = scores.forbidden_claims(prompt.question, answer.text)
            return float(not claims), "; ".join(claims) or "none"

    class GoldenPass(Deterministic):
        """1 if the answer passes (`scores.failures`)."""

        title = "Golden Pass"

        def count(self, prompt: GoldenPrompt, answer: GoldenAnswer) -> tuple[float | None, str]:
            failures = scores.failures(prompt, answer)
            return float(not failures), "; ".join(failures) or "passed"

    return SimpleNamespace(
        citation_validity=CitationValidity,
        context_recall=ContextRecall,
        forbidden_claims=ForbiddenClaims,
        golden_pass=GoldenPass,
    )


__all__ = ["case_of", "golden_metrics"]
