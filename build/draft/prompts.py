"""What an engine is asked when a draft is taught and measured: prompts and grammars as they are served."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from slipstream import GateError
from slipstream.build.calibration import serving_prompts
from slipstream.engines.protocols import GenerationRequest, Progress, Runtime, Sampling, TokenDelta
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer

ANSWER_TOKENS = 128
"""An answer is cut here; the default adapter's take 40."""

_SILENCE_S = 300.0
_HEADING = re.compile(r"^\[(\d+)\] .+:\d+-\d+$", re.MULTILINE)


class EngineGaveNoAnswer(GateError):
    """An engine failed, or said nothing for minutes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the grammar that its answer follows."""

    prompt_ids: list[int]
    grammar: str


def asked_prompts(chunks: Sequence[Chunk], tokenizer: ChatTokenizer, count: int, limit: int, seed: int) -> list[Asked]:
    """``count`` prompts of at most ``limit`` tokens over ``chunks``; equal arguments give equal prompts."""
    drawn = serving_prompts(chunks, tokenizer, count, limit, seed)
    return [Asked(ids, citing_grammar(_contexts(tokenizer.decode(ids)))) for ids in drawn]


def _contexts(prompt: str) -> int:
    """How many contexts are numbered in it."""
    return max((int(number) for number in _HEADING.findall(prompt)), default=1)


def answer_all(runtime: Runtime, asked: Sequence[Asked], progress: Progress, name: str = "answer") -> list[list[int]]:
    """What ``runtime`` answers greedily, all at once: token ids, without the end of the sequence.

    Raises:
        EngineGaveNoAnswer: a request failed, or nothing came for minutes.
    """
    deltas: SimpleQueue[TokenDelta] = SimpleQueue()
    answers: dict[str, list[int]] = {f"{name}-{number}": [] for number in range(len(asked))}
    for generation_id, one in zip(answers, asked, strict=True):
        request = GenerationRequest(generation_id, one.prompt_ids, Sampling(ANSWER_TOKENS), one.grammar)
        runtime.submit(request, deltas.put)
    ended = 0
    while ended < len(asked):
        try:
            delta = deltas.get(timeout=_SILENCE_S)
        except Empty:
            raise EngineGaveNoAnswer(
                f"the engine said nothing for {_SILENCE_S:.0f} s, {ended} of {len(asked)} answers ended",
                "see the log above, and build again",
            ) from None
        answers[delta.generation_id] += delta.token_ids
        if delta.finish_reason == "error":
            raise EngineGaveNoAnswer(f"the engine does not answer: {delta.error}", "see the log above, and build again")
        ended += delta.finish_reason is not None
        progress(ended / len(asked), "asking the engine")
    return list(answers.values())


__all__ = ["ANSWER_TOKENS", "Asked", "EngineGaveNoAnswer", "answer_all", "asked_prompts"]
