"""The generations of a runtime: who is live, who was cancelled, what was counted; each ends exactly once."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from slipstream.engines.protocols import Emit, FinishReason, GenerationRequest, RuntimeMetrics, TokenDelta
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Live:
    """A request that has not had its last delta; ``running`` once it has a slot."""

    request: GenerationRequest
    emit: Emit
    running: bool = False
    cancelled: bool = False
    token_count: int = 0

    @property
    def remaining(self) -> int:
        return self.request.sampling.max_tokens - self.token_count


class Generations:
    """Shared by threads: callers `enter` and `cancel`, the runtime hands tokens out with `put` and `end`.

    Args:
        has_grammars: whether the engine was given a tokenizer that says what each token spells.
    """

    def __init__(self, engine: ServedEngine, *, has_grammars: bool) -> None:
        self._engine, self._has_grammars = engine, has_grammars
        self._eos = frozenset(engine.eos_token_ids)
        self._lock = threading.Lock()
        self._live: dict[str, Live] = {}  # guarded by `_lock`
        self._closing = False
        self._counters = dict.fromkeys(("tokens", "cancelled", "failed", "steps", "proposed", "accepted"), 0)

    def enter(self, request: GenerationRequest, emit: Emit, start: Callable[[Live], object]) -> None:
        """Take ``request`` in and ``start`` it; what is wrong with it is emitted at once, on the caller's thread."""
        problem = self._engine.problem(request, has_grammars=self._has_grammars)
        if not problem:
            with self._lock:
                if self._closing:
                    problem = "the engine is shutting down"
                elif request.generation_id in self._live:
                    problem = f"generation id {request.generation_id!r} is live already"
                else:
                    live = Live(request, emit)
                    self._live[request.generation_id] = live
                    start(live)
        if problem:
            emit(TokenDelta(request.generation_id, (), "error", problem))

    def start(self, live: Live) -> bool:
        """Give ``live`` a slot; False when it was cancelled while it waited, and then it has ended."""
        with self._lock:
            live.running = not live.cancelled
        if live.cancelled:
            self.end(live, "cancelled")
        return live.running

    def cancel(self, generation_id: str) -> Live | None:
        """Mark a generation as cancelled; None if it is not live or was cancelled before."""
        with self._lock:
            live = self._live.get(generation_id)
            if live is None or live.cancelled:
                return None
            live.cancelled = True
            return live

    def close(self) -> list[Live]:
        """Refuse what comes, and mark everything live as cancelled."""
        with self._lock:
            self._closing = True
            everyone = list(self._live.values())
            for live in everyone:
                live.cancelled = True
            return everyone

    def put(self, live: Live, tokens: Sequence[int]) -> bool:
        """Hand out ``tokens``; False when no more are wanted: an end-of-sequence token, the length, or a cancel.

        Engines differ in whether they return the end token and what follows it in one step: it is cut here. Where the
        caller ignores ends, the token is dropped and the generation goes on.
        """
        kept: list[int] = []
        is_over = False
        for token in tokens:
            if token not in self._eos:
                kept.append(token)
            elif not live.request.sampling.ignore_eos:
                is_over = True
                break
        kept = kept[: live.remaining]
        if live.cancelled:
            return False
        live.token_count += len(kept)
        self.count("tokens", len(kept))
        if kept:
            self._emit(live, TokenDelta(live.request.generation_id, tuple(kept)))
        return not is_over and live.remaining > 0 and not live.cancelled

    def end(self, live: Live, reason: FinishReason, error: str = "") -> None:
        """The last delta. The place is free before it, so that whoever hears of the end finds it free."""
        if live.cancelled:
            reason, error = "cancelled", ""
        with self._lock:
            if self._live.get(live.request.generation_id) is not live:
                return
            del self._live[live.request.generation_id]
            live.running = False
        self.count("cancelled", int(reason == "cancelled"))
        self.count("failed", int(reason == "error"))
        self._emit(live, TokenDelta(live.request.generation_id, (), reason, error))

    def count(self, name: str, amount: int) -> None:
        with self._lock:
            self._counters[name] += amount

    def metrics(self, cache_usage_ratio: float = 0.0) -> RuntimeMetrics:
        """``extra`` counts ``steps`` (answers of the engine) and ``failed`` requests."""
        with self._lock:
            running = sum(live.running for live in self._live.values())
            counters = dict(self._counters)
            waiting = len(self._live) - running
        return RuntimeMetrics(
            active=running,
            waiting=waiting,
            tokens_generated=counters["tokens"],
            cancelled=counters["cancelled"],
            cache_usage_ratio=cache_usage_ratio if running else 0.0,
            proposed=counters["proposed"],
            accepted=counters["accepted"],
            extra={name: counters[name] for name in ("steps", "failed")},
        )

    def _emit(self, live: Live, delta: TokenDelta) -> None:
        try:
            live.emit(delta)
        except Exception as error:  # a reader that broke must not take its neighbours along
            log.error("engine.reader_failed", generation_id=delta.generation_id, error=repr(error))
            self.cancel(delta.generation_id)
