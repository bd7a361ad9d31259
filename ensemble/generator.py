"""The generator's loop: token deltas of the runtime become text responses, off the engine's thread.

The runtime calls `Generation.put` between two decode steps, and the next step waits for it; so a delta only goes into
a queue there. One sender thread turns deltas into text (whole characters, stop strings, valid citations) and sends.
When it falls behind, the deltas of a generation that have piled up leave as one response: under load the stream gets
coarser instead of slower.
"""

import threading
from dataclasses import dataclass, field
from time import monotonic

import structlog

from slipstream.engines.protocols import FinishReason, GenerationRequest, Runtime, RuntimeMetrics, TokenDelta
from slipstream.ensemble.citations import CitationGuard
from slipstream.ensemble.contracts import Evidence
from slipstream.ensemble.generation import Question, Refusal, Response, Sink
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.stopping import StopFilter
from slipstream.ensemble.tokenizer import ChatTokenizer, TextStream

log = structlog.get_logger(__name__)

PEER_CHECK_S = 0.1
"""How often a stream's own client is asked about; asking costs a message to the Triton process."""


@dataclass(slots=True)
class _Live:
    question: Question
    sink: Sink
    text: TextStream
    stops: StopFilter
    guard: CitationGuard | None
    completion_tokens: int = 0
    hits_sent: bool = False
    checked_at: float = field(default_factory=monotonic)
    # Deltas that arrived and were not sent; guarded by the generator's condition.
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str = ""


class Generator:
    """Drives ``runtime`` for any number of callers.

    Args:
        max_waiting: how many generations may queue behind the ``max_concurrency`` running ones.
        stream_interval: when every slot is taken, that many tokens of a stream travel together; the first token of
            an answer never waits.
        constrained: answers with contexts are decoded by `citing_grammar`; ``runtime`` needs a tokenizer for it.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: ChatTokenizer,
        *,
        max_concurrency: int = 8,
        max_waiting: int = 64,
        stream_interval: int = 1,
        constrained: bool = False,
    ) -> None:
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._max_concurrency = max_concurrency
        self._limit = max_concurrency + max_waiting
        self._interval = stream_interval
        self._constrained = constrained
        self._live: dict[str, _Live] = {}  # guarded by `_wake`
        self._ready: dict[str, _Live] = {}  # those with something to send, in order of arrival; guarded by `_wake`
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="generator-sender", daemon=True)
        self._thread.start()

    def submit(self, question: Question, sink: Sink) -> None:
        """Start a generation whose responses go to ``sink``.

        Raises:
            Refusal: the queue is full, the id is taken, or the hits cannot be read.
        """
        evidence = _evidence(question)
        if evidence is not None and evidence.declined:
            sink.send(self._declined(question, evidence.declined))
            return
        contexts = None if evidence is None else len(evidence.hits)
        guard = None if contexts is None else CitationGuard(contexts)
        live = _Live(question, sink, TextStream(self._tokenizer), StopFilter(question.stop), guard)
        with self._wake:
            if self._closing:
                raise Refusal("overloaded", "The engine is shutting down.")
            if len(self._live) >= self._limit:
                raise Refusal("overloaded", "Every slot and the queue are full; try again shortly.")
            if question.generation_id in self._live:
                raise Refusal("invalid_request", f"generation id {question.generation_id!r} is live already")
            self._live[question.generation_id] = live
        grammar = citing_grammar(contexts) if contexts and self._constrained else ""
        request = GenerationRequest(question.generation_id, question.prompt_ids, question.sampling, grammar)
        self._runtime.submit(request, lambda delta: self._put(live, delta))

    def _declined(self, question: Question, sentence: str) -> Response:
        """The whole answer where nothing was found: no slot, no prompt read, no sampling; limits hold as they do."""
        ids = self._tokenizer.encode(sentence)
        is_cut = len(ids) > question.sampling.max_tokens
        if is_cut:
            stream, ids = TextStream(self._tokenizer), ids[: question.sampling.max_tokens]
            sentence = stream.feed(ids) + stream.flush()
        stops = StopFilter(question.stop)
        text = stops.feed(sentence) + stops.flush()
        finish = "length" if is_cut and not stops.stopped else "stop"
        return Response(text, finish, 0, self._tokenizer.count(text) if stops.stopped else len(ids), question.hits)

    def cancel(self, generation_id: str) -> bool:
        """Free the slot of a generation; False if it is not live."""
        return self._runtime.cancel(generation_id)

    def metrics(self) -> RuntimeMetrics:
        return self._runtime.metrics()

    def close(self) -> None:
        """End every generation (their sinks hear ``cancelled``) and stop the sender."""
        with self._wake:
            self._closing = True
        self._runtime.close()
        with self._wake:
            self._wake.notify()
        self._thread.join(timeout=5)

    def _put(self, live: _Live, delta: TokenDelta) -> None:
        """On the engine's thread."""
        with self._wake:
            live.tokens.extend(delta.token_ids)
            live.finish = delta.finish_reason or live.finish
            live.error = delta.error or live.error
            if self._is_due(live):
                self._ready[live.question.generation_id] = live
                self._wake.notify()

    def _is_due(self, live: _Live) -> bool:
        """Whether what has piled up should leave; the caller holds the lock."""
        if live.finish or not live.completion_tokens:
            return True
        crowded = len(self._live) >= self._max_concurrency
        return len(live.tokens) >= (self._interval if crowded else 1)

    def _run(self) -> None:
        """The sender thread."""
        while self._send_ready():
            pass

    def _send_ready(self) -> bool:
        """Wait for deltas and send them; False when there will be none.

        A call of its own, because its frame goes when it returns: a sink that lingers there keeps Triton from
        unloading the model.
        """
        with self._wake:
            self._wake.wait_for(lambda: self._ready or self._closing)
            batch = [self._take(live) for live in self._ready.values()]
            self._ready.clear()
        for live, tokens, finish, error in batch:
            try:
                self._send(live, tokens, finish, error)
            except Exception:  # a broken reader must not silence the others
                log.exception("generator.send_failed", generation_id=live.question.generation_id)
                self.cancel(live.question.generation_id)
        return bool(batch) or not self._closing

    def _take(self, live: _Live) -> tuple[_Live, list[int], FinishReason | None, str]:
        """Empty the pile of ``live``; the caller holds the lock."""
        tokens, live.tokens = live.tokens, []
        if live.finish:
            self._live.pop(live.question.generation_id, None)
        return live, tokens, live.finish, live.error

    def _send(self, live: _Live, tokens: list[int], finish: FinishReason | None, error: str) -> None:
        if live.stops.stopped and not finish:
            return
        if error:
            live.sink.fail("engine_error", error)
            return
        text = ""
        if not live.stops.stopped:
            live.completion_tokens += len(tokens)
            text = live.stops.feed(live.text.feed(tokens))
        if finish and not live.stops.stopped:
            text += live.stops.feed(live.text.flush()) + live.stops.flush()
        self._respond(live, text, "stop" if finish and live.stops.stopped else finish)
        if live.stops.stopped and not finish:
            self.cancel(live.question.generation_id)  # its last delta brings the finish
        elif not finish:
            self._check_peer(live)

    def _respond(self, live: _Live, text: str, finish: str | None) -> None:
        if live.guard is not None:
            text = live.guard.feed(text) + (live.guard.flush() if finish else "")
        if not text and not finish:
            return
        hits = "" if live.hits_sent else live.question.hits
        live.hits_sent = True
        counts = len(live.question.prompt_ids), live.completion_tokens
        live.sink.send(Response(text, finish or "", *counts, hits))

    def _check_peer(self, live: _Live) -> None:
        now = monotonic()
        if now - live.checked_at >= PEER_CHECK_S:
            live.checked_at = now
            if live.sink.is_gone():
                self.cancel(live.question.generation_id)


def _evidence(question: Question) -> Evidence | None:
    """What the prompt was made from; None when nothing was searched for it."""
    if not question.hits:
        return None
    try:
        return Evidence.model_validate_json(question.hits)
    except ValueError as error:
        raise Refusal("invalid_request", f"hits cannot be read: {error}") from error
