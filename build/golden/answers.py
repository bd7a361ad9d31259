"""Golden questions answered by an engine, greedily and several at once, by the generator that serves.

Only the engine differs between two sets of answers: `agreement` then says how far it changes what is served.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from slipstream import EnvironmentFault
from slipstream.build.golden.contexts import ANSWER_TOKENS, GoldenPrompt
from slipstream.engines.protocols import (
    Emit,
    GenerationRequest,
    Progress,
    Runtime,
    RuntimeMetrics,
    Sampling,
    TokenDelta,
)
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.contracts import ErrorCode
from slipstream.ensemble.generation import Question, Response
from slipstream.ensemble.generator import Generator
from slipstream.ensemble.manifest import ServingOptions
from slipstream.ensemble.tokenizer import ChatTokenizer

ANSWER_TIMEOUT_S = 300.0
"""What one answer may take; an engine that needs longer hangs."""


class EngineFailed(EnvironmentFault):
    """The engine refused a prompt, or did not finish an answer in time."""


class GoldenAnswer(BaseModel):
    """What was answered to one question.

    Attributes:
        token_ids: as the engine picked them, before anything was dropped; none where the question was declined.
        text: as a client gets it.
        raw: the text of ``token_ids``; marks that name no context are still in it.
        finish: why it ended: ``stop`` or ``length``.
        first_token_s, total_s: from when the engine was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question_id: str
    token_ids: tuple[int, ...]
    text: str
    raw: str
    finish: str
    prompt_tokens: int
    first_token_s: float
    total_s: float

    @property
    def cited(self) -> list[int]:
        """Numbers of the contexts that the served text cites."""
        return cited_numbers(self.text)


class GoldenAnswers(BaseModel):
    """Answers to the questions of one use, in their order, and how long all of them took together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[GoldenAnswer, ...]
    streams: int
    wall_s: float

    @property
    def generated_tokens(self) -> int:
        return sum(len(one.token_ids) for one in self.answers)


class Agreement(BaseModel):
    """Of two engines' greedy answers: the share that is the same token by token, and how long they begin alike.

    Both are None where no engine was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: int
    identical: float | None
    common_prefix: float | None


def answer(
    prompts: Sequence[GoldenPrompt],
    runtime: Runtime,
    tokenizer: ChatTokenizer,
    serving: ServingOptions,
    progress: Progress,
    *,
    streams: int = 8,
    max_tokens: int = ANSWER_TOKENS,
) -> GoldenAnswers:
    """Ask ``runtime`` every question, at most ``streams`` at a time; it stays loaded.

    Prompts that begin alike are asked one after the other, for the engine's prefix cache; equal prompts are asked in
    equal order, so that two engines batch them alike.

    Raises:
        EngineFailed: naming the question.
    """
    recording = _Recording(runtime)
    constrained = serving.citations == "constrained"
    generator = Generator(
        recording, tokenizer, max_concurrency=streams, max_waiting=len(prompts), constrained=constrained
    )
    slots, pending = threading.Semaphore(streams), dict[str, _Pending]()
    started = time.perf_counter()
    try:
        for number, prompt in enumerate(sorted(prompts, key=lambda one: one.prompt_ids)):
            name = prompt.question.id
            _acquire(slots, name)
            progress(number / len(prompts), f"answering {name}")
            pending[name] = _Pending(slots)
            question = Question(name, prompt.prompt_ids, Sampling(max_tokens), hits=prompt.evidence.model_dump_json())
            generator.submit(question, pending[name])
        for name, one in pending.items():
            if not one.ended.wait(ANSWER_TIMEOUT_S):
                raise _late(name)
    finally:
        generator.close()
    wall_s = time.perf_counter() - started
    answers = tuple(_answer(prompt, pending[prompt.question.id], recording, tokenizer) for prompt in prompts)
    progress(1.0, f"{len(answers)} questions answered")
    return GoldenAnswers(answers=answers, streams=streams, wall_s=wall_s)


def agreement(one: GoldenAnswers, other: GoldenAnswers) -> Agreement:
    """How alike two sets of answers to the same questions are; declined questions, which no engine sees, count not.

    ``common_prefix`` is the mean over answers of the tokens both begin with, divided by the longer one's. An engine
    does not quite agree with itself where several answers run at a time: how they are batched changes the last bits
    of a sum.

    Raises:
        ValueError: they answer other questions.
    """
    ours = {answer.question_id: answer.token_ids for answer in one.answers if answer.prompt_tokens}
    theirs = {answer.question_id: answer.token_ids for answer in other.answers if answer.prompt_tokens}
    if ours.keys() != theirs.keys():
        raise ValueError("two sets of answers are compared only on the same questions")
    pairs = [(ours[name], theirs[name]) for name in ours]
    if not pairs:
        return Agreement(answers=0, identical=None, common_prefix=None)
    return Agreement(
        answers=len(pairs),
        identical=fmean(a == b for a, b in pairs),
        common_prefix=fmean(_common_prefix(a, b) for a, b in pairs),
    )


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> float:
    """Tokens both begin with, as a share of the longer; 1 for two empty answers."""
    longer = max(len(one), len(other))
    common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return common / longer if longer else 1.0


def _answer(
    prompt: GoldenPrompt, pending: "_Pending", recording: "_Recording", tokenizer: ChatTokenizer
) -> GoldenAnswer:
    name = prompt.question.id
    if pending.error:
        raise EngineFailed(f"question {name!r}: {pending.error}", "slipstream build RECIPE, after the cause is mended")
    ids = tuple(recording.tokens.get(name, ()))
    return GoldenAnswer(
        question_id=name,
        token_ids=ids,
        text=pending.text,
        raw=tokenizer.decode(ids) if ids else pending.text,
        finish=pending.finish,
        prompt_tokens=len(prompt.prompt_ids),
        first_token_s=pending.first_s,
        total_s=pending.total_s,
    )


def _acquire(slots: threading.Semaphore, name: str) -> None:
    if not slots.acquire(timeout=ANSWER_TIMEOUT_S):
        raise _late(name)


def _late(name: str) -> EngineFailed:
    return EngineFailed(
        f"no answer ended within {ANSWER_TIMEOUT_S:.0f} s, waiting for {name!r}", "see the engine's log; build again"
    )


@dataclass
class _Pending:
    """The sink of one answer."""

    slots: threading.Semaphore
    text: str = ""
    finish: str = ""
    error: str = ""
    first_s: float = 0.0
    total_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, response: Response) -> None:
        if not self.first_s:
            self.first_s = time.perf_counter() - self.started
        self.text += response.text
        if response.finish_reason:
            self._end(response.finish_reason)

    def fail(self, code: ErrorCode, message: str) -> None:
        self.error = f"{code}: {message}"
        self._end("error")

    def is_gone(self) -> bool:
        return False

    def _end(self, finish: str) -> None:
        self.finish = finish
        self.total_s = time.perf_counter() - self.started
        self.ended.set()
        self.slots.release()


class _Recording:
    """A runtime that notes which tokens were picked, for the generator passes on their text alone."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.tokens: dict[str, list[int]] = {}

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        picked = self.tokens.setdefault(request.generation_id, [])

        def note(delta: TokenDelta) -> None:
            picked.extend(delta.token_ids)
            emit(delta)

        self._runtime.submit(request, note)

    def cancel(self, generation_id: str) -> bool:
        return self._runtime.cancel(generation_id)

    def metrics(self) -> RuntimeMetrics:
        return self._runtime.metrics()

    def close(self) -> None:
        """Cancel what is live; the engine is the caller's."""
        for generation_id in self.tokens:
            self._runtime.cancel(generation_id)


__all__ = ["Agreement", "EngineFailed", "GoldenAnswer", "GoldenAnswers", "agreement", "answer"]
