"""What a judge says of golden answers, by DeepEval's own metrics.

Faithfulness, Answer Relevancy, Contextual Precision and Contextual Recall (DeepEval's definitions) of every answer an
engine gave. Each score is written down when it is known, so that a judge that goes away costs nothing that was judged
before.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import Any, TextIO

import httpx
from pydantic import BaseModel, ConfigDict

from slipstream.build.golden.answers import GoldenAnswer, GoldenAnswers
from slipstream.build.golden.contexts import GoldenPrompt
from slipstream.build.golden.deepeval_quietly import quieten_deepeval
from slipstream.build.golden.judge import TIMEOUT, Judge, JudgeUnreachable, JudgeUnusable, NoJudgement, judge_model
from slipstream.build.golden.metrics import case_of
from slipstream.build.stages import digest_of
from slipstream.engines.protocols import Progress

JUDGED = ("faithfulness", "answer_relevancy", "contextual_precision", "contextual_recall")
_WITH_REFERENCE = ("contextual_precision", "contextual_recall")
_REQUESTS = 4  # at a time


class JudgeScore(BaseModel):
    """One metric of one answer, 0..1; ``key`` names what was judged by whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    question_id: str
    metric: str
    score: float
    reason: str


class JudgeReport(BaseModel):
    """What the judge said: the mean of each metric over the answers that it applies to, and every score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    means: dict[str, float]
    scores: tuple[JudgeScore, ...]


def judge_answers(
    prompts: Sequence[GoldenPrompt], answers: GoldenAnswers, judge: Judge, kept: Path, progress: Progress
) -> JudgeReport:
    """Have every answer that an engine gave judged.

    Args:
        kept: a file of scores (JSON lines) that is read first and added to; what is in it is not asked again.

    Raises:
        JudgeUnreachable: the endpoint does not answer, or with an error.
        JudgeUnusable: some of its answers are no judgement; every other score was taken first.
        DeepEvalMissing: it is not installed.
    """
    wanted = [task for pair in zip(prompts, answers.answers, strict=True) for task in _tasks(*pair, judge)]
    known = _read(kept)
    open_tasks = [task for task in wanted if task.key not in known]
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client, kept.open("a", encoding="utf-8") as file:
        failed = _measure(open_tasks, judge_model(judge, client), known, file, progress)
    if failed:
        raise JudgeUnusable(
            f"{len(failed)} of {len(open_tasks)} answers of {judge!r} are no judgement; {failed[0]}",
            f"use a larger model; the other scores are kept in {kept} and not asked for again",
        )
    scores = tuple(known[task.key] for task in wanted)
    by_metric = {name: [one.score for one in scores if one.metric == name] for name in JUDGED}
    means = {name: fmean(values) for name, values in by_metric.items() if values}
    return JudgeReport(model=judge.model, means=means, scores=scores)


def _measure(
    tasks: "Sequence[_Task]", model: Any, known: dict[str, JudgeScore], file: TextIO, progress: Progress
) -> list[str]:
    """Score ``tasks`` into ``known`` and ``file``; gives back what could not be read as a judgement."""
    failed: list[str] = []
    stopped: JudgeUnreachable | JudgeUnusable | None = None
    ended = Event()  # and not cancelled futures: nobody who waits for those is told

    def measured(task: _Task) -> JudgeScore | None:
        return None if ended.is_set() else task.measure(model)

    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="judge") as pool, _setting(ended):
        futures = {pool.submit(measured, task): task for task in tasks}
        for number, future in enumerate(as_completed(futures)):
            task = futures[future]
            progress(number / len(futures), f"{task.metric} of {task.prompt.question.id}")
            try:
                score = future.result()
            except NoJudgement as error:
                failed.append(f"{task.metric} of {task.prompt.question.id}: {error}")
            except (JudgeUnreachable, JudgeUnusable) as error:  # no other task would fare better
                stopped = stopped or error
                ended.set()
            else:
                if score is not None:
                    known[score.key] = score
                    file.write(score.model_dump_json() + "\n")
                    file.flush()
    if stopped is not None:
        raise stopped
    return failed


@contextmanager
def _setting(ended: Event) -> Iterator[None]:
    """Set ``ended`` whatever ends this: after Ctrl-C a pool would still wait for every task that was not begun."""
    try:
        yield
    finally:
        ended.set()


@dataclass(frozen=True)
class _Task:
    """One metric of one answer."""

    key: str
    metric: str
    prompt: GoldenPrompt
    answer: GoldenAnswer

    def measure(self, model: Any) -> JudgeScore:
        quieten_deepeval()
        from deepeval import metrics

        kind = {
            "faithfulness": metrics.FaithfulnessMetric,
            "answer_relevancy": metrics.AnswerRelevancyMetric,
            "contextual_precision": metrics.ContextualPrecisionMetric,
            "contextual_recall": metrics.ContextualRecallMetric,
        }[self.metric]
        try:
            metric = kind(model=model, eval_mode="llm", async_mode=False)
            score = float(metric.measure(case_of(self.prompt, self.answer), _show_indicator=False))
            if not 0 <= score <= 1:
                raise ValueError(f"a score of {score}")
        except (JudgeUnreachable, JudgeUnusable, NoJudgement):
            raise
        except Exception as error:  # DeepEval raises whatever reading the model's words raises
            raise NoJudgement(f"{type(error).__name__}: {str(error)[:200]}") from error
        name = self.prompt.question.id
        return JudgeScore(
            key=self.key, question_id=name, metric=self.metric, score=score, reason=str(metric.reason or "")
        )


def _tasks(prompt: GoldenPrompt, answer: GoldenAnswer, judge: Judge) -> list[_Task]:
    """What is asked about one answer; nothing about one that no engine gave."""
    if prompt.declined or not answer.text.strip():
        return []
    judged = [name for name in JUDGED if prompt.question.reference or name not in _WITH_REFERENCE]
    shown = [context.text for context in prompt.contexts]
    about = [judge.url, judge.model, prompt.question.question, prompt.question.reference, answer.text, shown]
    return [_Task(digest_of([name, *about]), name, prompt, answer) for name in judged]


def _read(kept: Path) -> dict[str, JudgeScore]:
    """The scores in ``kept`` by key; a line that was cut off is left out, closed, and asked for again."""
    known: dict[str, JudgeScore] = {}
    text = kept.read_text(encoding="utf-8", errors="replace") if kept.exists() else ""
    for line in text.split("\n"):  # a reason may hold what Unicode calls a line's end, and JSON leaves as it is
        try:
            score = JudgeScore.model_validate_json(line)
        except ValueError:
            continue
        known[score.key] = score
    if text and not text.endswith("\n"):
        with kept.open("a", encoding="utf-8") as file:
            file.write("\n")
    return known


__all__ = ["JUDGED", "JudgeReport", "JudgeScore", "judge_answers"]
