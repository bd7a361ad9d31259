"""One generation under way: what arrived from the engine and was not sent, and the text that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from slipstream.engines.protocols import FinishReason, TokenDelta
from slipstream.ensemble.citations import CitationGuard
from slipstream.ensemble.generation import Question, Response, Sink
from slipstream.ensemble.stage_marks import Before, Marks
from slipstream.ensemble.stopping import StopFilter
from slipstream.ensemble.tokenizer import TextStream
from slipstream.profiling.spans import ENABLED, now_ns, span


@dataclass(slots=True)
class Pile:
    """Deltas that arrived and were not sent; ``steps_ns`` is when the steps that brought them ended."""

    tokens: list[int] = field(default_factory=list)
    steps_ns: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str = ""


@dataclass(slots=True)
class Live:
    """The engine's thread puts deltas on ``pile``, the sender's takes them off; whoever does holds their lock."""

    question: Question
    sink: Sink
    stream: TextStream
    stops: StopFilter
    guard: CitationGuard | None
    submitted_ns: int = field(default_factory=now_ns)
    taken_ns: int = 0
    completion_tokens: int = 0
    has_answered: bool = False
    checked_at: float = field(default_factory=monotonic)
    untold_ns: list[int] = field(default_factory=list)  # of steps that no response has told of
    pile: Pile = field(default_factory=Pile)

    def put(self, delta: TokenDelta) -> None:
        pile = self.pile
        pile.tokens.extend(delta.token_ids)
        if delta.step_ns or delta.token_ids:  # of a runtime that tells no times, when it handed the tokens out
            pile.steps_ns.append(delta.step_ns or now_ns())
        self.taken_ns = self.taken_ns or delta.taken_ns
        pile.finish = delta.finish_reason or pile.finish
        pile.error = delta.error or pile.error

    def take(self) -> Pile:
        pile, self.pile = self.pile, Pile()
        self.untold_ns += pile.steps_ns
        return pile

    def respond(self, pile: Pile) -> Response | None:
        """What may be said now of the tokens of ``pile`` and of those before; None for nothing yet."""
        with span("detokenize", self.question.request_id) as work:
            text = self._text(pile)
        if not text and not pile.finish:
            return None
        question, hits, before = self.question, "", None
        if not self.has_answered:
            hits = question.hits
            before = Before.of(question.embed_ns, question.retrieve_ns, self.submitted_ns, self.taken_ns)
        marks = marks_of(work, self.untold_ns, before)
        self.has_answered, self.untold_ns = True, []
        finish = "stop" if pile.finish and self.stops.stopped else pile.finish or ""
        return Response(text, finish, len(question.prompt_ids), self.completion_tokens, hits, marks)

    def _text(self, pile: Pile) -> str:
        text = ""
        if not self.stops.stopped:
            self.completion_tokens += len(pile.tokens)
            text = self.stops.feed(self.stream.feed(pile.tokens))
        if pile.finish and not self.stops.stopped:
            text += self.stops.feed(self.stream.flush()) + self.stops.flush()
        if self.guard is not None:
            text = self.guard.feed(text) + (self.guard.flush() if pile.finish else "")
        return text


def marks_of(detokenize: span, steps_ns: Sequence[int], before: Before | None) -> Sequence[int]:
    """The marks of a response as it carries them."""
    return Marks(detokenize.start_ns, detokenize.end_ns, tuple(steps_ns), before).encode() if ENABLED else ()


__all__ = ["Live", "Pile", "marks_of"]
