"""The generator's loop: token deltas of the runtime become text responses, off the engine's thread.

The runtime calls `Generation.put` between two decode steps, and the next step waits for it; so a delta only goes into
a queue there. One sender thread turns deltas into text (whole characters, stop strings, valid citations) and sends.
When it falls behind, the deltas of a generation that have piled up leave as one response: under load the stream gets
coarser instead of slower.
"""

import threading
from time import monotonic

import structlog

from slipstream.engines.protocols import GenerationRequest, Runtime, RuntimeMetrics, TokenDelta
from slipstream.ensemble.citations import CitationGuard
from slipstream.ensemble.contracts import Evidence
from slipstream.ensemble.generation import Question, Refusal, Response, Sink
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.live import Live, Pile, marks_of
from slipstream.ensemble.stage_marks import Before
from slipstream.ensemble.stopping import StopFilter
from slipstream.ensemble.tokenizer import ChatTokenizer, TextStream
from slipstream.profiling.spans import now_ns, span

log = structlog.get_logger(__name__)

PEER_CHECK_S = 0.1
"""How often a stream's own client is asked about; asking costs a message to the Triton process."""


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
        self._live: dict[str, Live] = {}  # guarded by `_wake`
        self._ready: dict[str, Live] = {}  # those with something to send, in order of arrival; guarded by `_wake`
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
        live = Live(question, sink, TextStream(self._tokenizer), StopFilter(question.stop), guard)
        with self._wake:
            if self._closing:
                raise Refusal("overloaded", "The engine is shutting down.")
            if len(self._live) >= self._limit:
                raise Refusal("overloaded", "Every slot and the queue are full; try again shortly.")
            if question.generation_id in self._live:
                raise Refusal("invalid_request", f"generation id {question.generation_id!r} is live already")
            self._live[question.generation_id] = live
        grammar = citing_grammar(contexts) if contexts and self._constrained else ""
        name, request_id = question.generation_id, question.request_id
        request = GenerationRequest(name, question.prompt_ids, question.sampling, grammar, request_id)
        self._runtime.submit(request, lambda delta: self._put(live, delta))

    def _declined(self, question: Question, sentence: str) -> Response:
        """The whole answer where nothing was found: no slot, no prompt read, no sampling; limits hold as they do."""
        submitted_ns = now_ns()
        with span("detokenize", question.request_id) as work:
            ids = self._tokenizer.encode(sentence)
            is_cut = len(ids) > question.sampling.max_tokens
            if is_cut:
                stream, ids = TextStream(self._tokenizer), ids[: question.sampling.max_tokens]
                sentence = stream.feed(ids) + stream.flush()
            stops = StopFilter(question.stop)
            text = stops.feed(sentence) + stops.flush()
            finish = "length" if is_cut and not stops.stopped else "stop"
            completion_tokens = self._tokenizer.count(text) if stops.stopped else len(ids)
        marks = marks_of(work, (), Before.of(question.embed_ns, question.retrieve_ns, submitted_ns))
        return Response(text, finish, 0, completion_tokens, question.hits, marks)

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

    def _put(self, live: Live, delta: TokenDelta) -> None:
        """On the engine's thread."""
        with self._wake:
            live.put(delta)
            if self._is_due(live):
                self._ready[live.question.generation_id] = live
                self._wake.notify()

    def _is_due(self, live: Live) -> bool:
        """Whether what has piled up should leave; the caller holds the lock."""
        if live.pile.finish or not live.completion_tokens:
            return True
        crowded = len(self._live) >= self._max_concurrency
        return len(live.pile.tokens) >= (self._interval if crowded else 1)

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
        for live, pile in batch:
            try:
                self._send(live, pile)
            except Exception:  # a broken reader must not silence the others
                name, request_id = live.question.generation_id, live.question.request_id
                log.exception("generator.send_failed", generation_id=name, request_id=request_id)
                self.cancel(live.question.generation_id)
        return bool(batch) or not self._closing

    def _take(self, live: Live) -> tuple[Live, Pile]:
        """Empty the pile of ``live``; the caller holds the lock."""
        pile = live.take()
        if pile.finish:
            self._live.pop(live.question.generation_id, None)
        return live, pile

    def _send(self, live: Live, pile: Pile) -> None:
        if live.stops.stopped and not pile.finish:
            return
        if pile.error:
            live.sink.fail("engine_error", pile.error)
            return
        response = live.respond(pile)
        if response is not None:
            live.sink.send(response)
        if live.stops.stopped and not pile.finish:
            self.cancel(live.question.generation_id)  # its last delta brings the finish
        elif not pile.finish:
            self._check_peer(live)

    def _check_peer(self, live: Live) -> None:
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
