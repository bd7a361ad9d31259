"""The OpenVINO runtime: keeps an engine process, sends it requests and hands out what comes back."""

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path

import structlog

from slipstream import SlipstreamError
from slipstream.engines.openvino.engine_process import EngineProcess
from slipstream.engines.openvino.pipeline import EngineConfig
from slipstream.engines.protocols import (
    Emit,
    FinishReason,
    GenerationRequest,
    RuntimeMetrics,
    RuntimeOptions,
    TokenDelta,
)

log = structlog.get_logger(__name__)

_RESTART_PAUSE_S = 1.0
_COUNTED = ("tokens_generated", "cancelled", "proposed", "accepted", "failed", "steps", "restarts")


@dataclass(slots=True)
class _Live:
    """A request that has not had its last delta."""

    request: GenerationRequest
    emit: Emit
    number: int
    cancelled: bool = False
    taken_ns: int = 0


class OpenVinoRuntime:
    """Implements `slipstream.engines.protocols.Runtime`; the constructor returns when the engine is loaded.

    At most ``max_concurrency`` requests are in the pipeline; the others wait in the order they came. An engine process
    that dies takes its live requests along, with an error each, and another one is started.

    Args:
        engine_dir: what `OpenVinoTarget.compile` wrote.
        options: ``threads`` None uses every core this process may run on.

    Raises:
        EngineUnreadable: ``engine_dir`` is no engine.
        EngineNotLoaded: it looks like one, and does not load; or the tokenizer of ``options`` does not fit it.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self._engine_dir, self._options = engine_dir, options
        self._config = EngineConfig(engine_dir, options)
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}  # by generation id; guarded by `_lock`
        self._by_number: dict[int, _Live] = {}  # the same; guarded by `_lock`
        self._numbers = itertools.count()
        self._counters = dict.fromkeys(_COUNTED, 0)
        self._cache_usage_ratio = 0.0
        self._closing = threading.Event()
        self._process = EngineProcess(engine_dir, options)
        self._thread = threading.Thread(target=self._run, name="openvino-runtime", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the engine process."""
        return self._process.pid

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue ``request``; what is wrong with it is emitted at once, on the caller's thread."""
        problem = self._problem(request)
        if not problem:
            with self._lock:
                problem = self._enter(request, emit)
        if problem:
            emit(TokenDelta(request.generation_id, (), "error", problem))

    def cancel(self, generation_id: str) -> bool:
        with self._lock:
            live = self._live.get(generation_id)
            if live is None or live.cancelled:
                return False
            live.cancelled = True
            self._process.send(["cancel", live.number])
            return True

    def metrics(self) -> RuntimeMetrics:
        """``extra`` counts ``steps``, ``failed`` requests and ``restarts``. A block kept as a prefix is not in use.

        ``proposed`` counts what a prompt lookup found, though every step verifies as many tokens as it may propose.
        """
        live = len(self._live)
        counters = self._counters
        return RuntimeMetrics(
            active=min(live, self._options.max_concurrency),
            waiting=max(0, live - self._options.max_concurrency),
            tokens_generated=counters["tokens_generated"],
            cancelled=counters["cancelled"],
            cache_usage_ratio=self._cache_usage_ratio if live else 0.0,
            proposed=counters["proposed"],
            accepted=counters["accepted"],
            extra={name: counters[name] for name in ("steps", "failed", "restarts")},
        )

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            for live in self._live.values():
                live.cancelled = True
            self._process.stop()
        self._thread.join()

    def _enter(self, request: GenerationRequest, emit: Emit) -> str:
        """Take ``request`` in, or say why not; the caller holds the lock."""
        if self._closing.is_set():
            return "the engine is shutting down"
        if not self._process.ready:
            return "the engine is restarting"
        if request.generation_id in self._live:
            return f"generation id {request.generation_id!r} is live already"
        live = _Live(request, emit, next(self._numbers))
        self._live[request.generation_id] = self._by_number[live.number] = live
        sampling = request.sampling
        limits = [sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.ignore_eos]
        prompt_ids = [int(token) for token in request.prompt_ids]
        self._process.send(["submit", live.number, prompt_ids, limits, request.grammar, request.request_id])
        return ""

    def _problem(self, request: GenerationRequest) -> str:
        """Why ``request`` cannot be generated, or an empty string. The pipeline itself reads past its tables."""
        ids, sampling, config = request.prompt_ids, request.sampling, self._config
        total = len(ids) + sampling.max_tokens
        if not len(ids):
            return "the prompt is empty"
        if sampling.max_tokens < 1:
            return f"max_tokens is {sampling.max_tokens}; it has to be at least 1"
        if total > config.capacity_tokens:
            return f"prompt and max_tokens make {total} tokens; the engine holds {config.capacity_tokens}"
        if min(ids) < 0 or max(ids) >= config.vocabulary_size:
            return f"a prompt id is outside the vocabulary of {config.vocabulary_size}"
        if not 0 <= sampling.temperature < float("inf"):
            return f"temperature is {sampling.temperature}; it has to be a number of at least 0"
        if not 0 < sampling.top_p <= 1:
            return f"top_p is {sampling.top_p}; it has to be in (0, 1]"
        if request.grammar and self._options.tokenizer is None:
            return "the engine was loaded without a tokenizer and cannot follow a grammar"
        return ""

    def _run(self) -> None:
        """The thread: hand out what the engine process says; start another when it ends by itself."""
        while True:
            why = self._hand_out()
            if self._closing.is_set():
                self._end_all("cancelled")
                return
            log.error("engine.process_ended", why=why, live=len(self._live), pid=self._process.pid)
            self._end_all("error", f"the engine process ended: {why}")
            self._restart()

    def _hand_out(self) -> str:
        """Until the process ends; returns why it did."""
        while (messages := self._process.receive()) is not None:
            for message in messages:
                if message[0] == "deltas":
                    _, deltas, steps, self._cache_usage_ratio, proposed, accepted, step_ns, taken = message
                    self._note_taken(taken)
                    for name, count in (("steps", steps), ("proposed", proposed), ("accepted", accepted)):
                        self._counters[name] += count
                    for number, tokens, reason, error in deltas:
                        self._pass_on(number, tokens, reason, error, step_ns)
        return self._process.wait()

    def _note_taken(self, taken: list[tuple[int, int]]) -> None:
        for number, taken_ns in taken:
            if live := self._by_number.get(number):
                live.taken_ns = taken_ns

    def _pass_on(self, number: int, tokens: list[int], reason: FinishReason | None, error: str, step_ns: int) -> None:
        """One delta to its reader; of a cancelled request only the end."""
        live = self._by_number.get(number)
        if live is None:
            return
        if live.cancelled:
            tokens, reason = [], reason and "cancelled"
        self._counters["tokens_generated"] += len(tokens)
        if reason:
            self._end(live, tuple(tokens), reason, error, step_ns)
        elif tokens:
            name = live.request.generation_id
            self._emit(live, TokenDelta(name, tuple(tokens), step_ns=step_ns, taken_ns=live.taken_ns))

    def _end_all(self, reason: FinishReason, error: str = "") -> None:
        with self._lock:
            every = list(self._by_number.values())
        for live in every:
            self._end(live, (), "cancelled" if live.cancelled else reason, error)

    def _end(
        self, live: _Live, tokens: tuple[int, ...], reason: FinishReason, error: str = "", step_ns: int = 0
    ) -> None:
        """Free the place first, so that whoever hears of the end finds it free."""
        with self._lock:
            del self._live[live.request.generation_id], self._by_number[live.number]
        self._counters["cancelled"] += reason == "cancelled"
        self._counters["failed"] += reason == "error"
        error = "" if reason == "cancelled" else error
        name = live.request.generation_id
        self._emit(live, TokenDelta(name, tokens, reason, error, step_ns, live.taken_ns))

    def _emit(self, live: _Live, delta: TokenDelta) -> None:
        try:
            live.emit(delta)
        except Exception as error:  # a reader that broke must not take its neighbours along
            log.error("engine.reader_failed", generation_id=delta.generation_id, error=repr(error))
            self.cancel(delta.generation_id)

    def _restart(self) -> None:
        """Until an engine process is loaded again, or this runtime is closed."""
        while not self._closing.wait(_RESTART_PAUSE_S):
            try:
                process = EngineProcess(self._engine_dir, self._options)
            except SlipstreamError as error:
                log.error("engine.restart_failed", error=str(error))
                continue
            with self._lock:
                self._process = process
                self._counters["restarts"] += 1
                if self._closing.is_set():
                    process.stop()
            log.info("engine.restarted", pid=process.pid)
            return
