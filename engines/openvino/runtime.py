"""The OpenVINO runtime: one thread drives `openvino_genai.ContinuousBatchingPipeline`, one step for all live requests.

A step prefills up to ``max_num_batched_tokens`` of waiting prompts and advances every running sequence by one token
(dynamic split-fuse). Submissions and cancels are taken in between steps, so both wait for one step at most: about
25 ms with eight sequences of SmolLM2-135M on two cores, about 200 ms while a long prompt is prefilled. The step
releases the GIL.
"""

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from slipstream.engines.openvino.pipeline import BLOCK_TOKENS, EngineConfig, add_request, load_pipeline
from slipstream.engines.protocols import (
    Emit,
    FinishReason,
    GenerationRequest,
    RuntimeMetrics,
    RuntimeOptions,
    TokenDelta,
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Live:
    """A request that has not had its last delta. ``handle`` is None until the pipeline took it."""

    request: GenerationRequest
    emit: Emit
    handle: Any = None
    cancelled: bool = False


class OpenVinoRuntime:
    """Implements `slipstream.engines.protocols.Runtime`; the constructor loads the engine.

    At most ``max_concurrency`` requests are in the pipeline; the others wait here in the order they came.

    Args:
        engine_dir: what `OpenVinoTarget.compile` wrote.
        options: ``threads`` None uses every core this process may run on.

    Raises:
        EngineUnreadable: ``engine_dir`` is no engine.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self._model = EngineConfig(engine_dir)
        self._slots = options.max_concurrency
        self._capacity_tokens = max(2, options.kv_cache_bytes // self._model.block_bytes) * BLOCK_TOKENS
        self._pipeline = load_pipeline(engine_dir, options, self._capacity_tokens // BLOCK_TOKENS)
        self._wake = threading.Condition()
        self._requests: dict[str, _Live] = {}  # every live one, in the order of arrival; guarded by `_wake`
        self._closing = False
        self._running: list[_Live] = []  # those in the pipeline; touched by the thread only
        self._numbers = itertools.count()
        self._counters = dict.fromkeys(("tokens_generated", "cancelled", "failed", "steps"), 0)
        self._cache_usage_ratio = 0.0
        self._thread = threading.Thread(target=self._run, name="openvino-runtime", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue ``request``; what is wrong with it is emitted at once, on the caller's thread."""
        problem = self._problem(request)
        with self._wake:
            if self._closing:
                problem = "the engine is shutting down"
            elif request.generation_id in self._requests:
                problem = f"generation id {request.generation_id!r} is live already"
            if not problem:
                self._requests[request.generation_id] = _Live(request, emit)
                self._wake.notify()
        if problem:
            emit(TokenDelta(request.generation_id, (), "error", problem))

    def cancel(self, generation_id: str) -> bool:
        with self._wake:
            live = self._requests.get(generation_id)
            if live is None or live.cancelled:
                return False
            live.cancelled = True
            self._wake.notify()
            return True

    def metrics(self) -> RuntimeMetrics:
        """``extra`` counts ``steps`` and ``failed`` requests; ``cache_usage_ratio`` is that of the last step."""
        active = len(self._running)
        return RuntimeMetrics(
            active=active,
            waiting=max(0, len(self._requests) - active),
            tokens_generated=self._counters["tokens_generated"],
            cancelled=self._counters["cancelled"],
            cache_usage_ratio=self._cache_usage_ratio,
            extra={"steps": self._counters["steps"], "failed": self._counters["failed"]},
        )

    def close(self) -> None:
        with self._wake:
            self._closing = True
            for live in self._requests.values():
                live.cancelled = True
            self._wake.notify()
        self._thread.join()
        self._pipeline = None

    def _problem(self, request: GenerationRequest) -> str:
        """Why ``request`` cannot be generated, or an empty string. The pipeline itself reads past its tables."""
        ids, sampling, model = request.prompt_ids, request.sampling, self._model
        total = len(ids) + sampling.max_tokens
        limit = min(model.context_length, self._capacity_tokens)
        if not len(ids):
            return "the prompt is empty"
        if sampling.max_tokens < 1:
            return f"max_tokens is {sampling.max_tokens}; it has to be at least 1"
        if total > limit:
            return f"prompt and max_tokens make {total} tokens; the engine holds {limit}"
        if min(ids) < 0 or max(ids) >= model.vocabulary_size:
            return f"a prompt id is outside the vocabulary of {model.vocabulary_size}"
        if not 0 <= sampling.temperature < float("inf"):
            return f"temperature is {sampling.temperature}; it has to be a number of at least 0"
        if not 0 < sampling.top_p <= 1:
            return f"top_p is {sampling.top_p}; it has to be in (0, 1]"
        return ""

    def _run(self) -> None:
        """The thread: until closed, take what came in, step, hand out what came of it."""
        while self._wait():
            self._drop_cancelled()
            self._admit()
            if not self._running:
                continue
            try:
                self._pipeline.step()
                self._counters["steps"] += 1
                self._cache_usage_ratio = self._pipeline.get_metrics().cache_usage / 100
            except Exception as error:  # whatever the engine throws, its requests must hear of it
                log.exception("engine.step_failed", live=len(self._running))
                self._fail_running(f"the engine failed: {error}")
                continue
            for live in list(self._running):
                self._read(live)
        self._drop_cancelled()

    def _wait(self) -> bool:
        """Sleep until there is something to do; False when it is time to end."""
        with self._wake:
            self._wake.wait_for(lambda: self._requests or self._closing)
            return not self._closing

    def _drop_cancelled(self) -> None:
        with self._wake:
            dropped = [live for live in self._requests.values() if live.cancelled]
        for live in dropped:
            if live.handle is not None:
                live.handle.cancel()
            self._counters["cancelled"] += 1
            self._finish(live, (), "cancelled")

    def _admit(self) -> None:
        """Move waiting requests into free slots, oldest first."""
        free = self._slots - len(self._running)
        if free <= 0:
            return
        with self._wake:
            waiting = (live for live in self._requests.values() if live.handle is None)
            admitted = list(itertools.islice(waiting, free))
        for live in admitted:
            try:
                live.handle = add_request(self._pipeline, next(self._numbers), live.request, self._model.eos_token_ids)
                self._running.append(live)
            except Exception as error:
                self._fail(live, f"the engine refused the request: {error}")

    def _read(self, live: _Live) -> None:
        """Hand out the new tokens of ``live``; none once it was cancelled."""
        from openvino_genai import GenerationFinishReason, GenerationStatus

        if live.cancelled:
            return
        tokens: list[int] = []
        finish: FinishReason | None = None
        while live.handle.can_read():
            for output in live.handle.read().values():
                tokens.extend(output.generated_ids)
                if output.finish_reason != GenerationFinishReason.NONE:
                    finish = "length" if output.finish_reason == GenerationFinishReason.LENGTH else "stop"
        if live.handle.get_status() == GenerationStatus.IGNORED:
            self._fail(live, "the KV cache has no room for this request")
            return
        text = tuple(token for token in tokens if token not in self._model.eos_token_ids)
        self._counters["tokens_generated"] += len(text)
        if finish:
            self._finish(live, text, finish)
        elif text:
            self._emit(live, TokenDelta(live.request.generation_id, text))

    def _fail_running(self, error: str) -> None:
        for live in list(self._running):
            live.handle.cancel()
            self._fail(live, error)

    def _fail(self, live: _Live, error: str) -> None:
        self._counters["failed"] += 1
        self._finish(live, (), "error", error)

    def _finish(self, live: _Live, tokens: tuple[int, ...], reason: FinishReason, error: str = "") -> None:
        """Free the slot first, so that whoever hears of the end finds it free."""
        with self._wake:
            self._requests.pop(live.request.generation_id, None)
        if live in self._running:
            self._running.remove(live)
        self._emit(live, TokenDelta(live.request.generation_id, tokens, reason, error))

    def _emit(self, live: _Live, delta: TokenDelta) -> None:
        try:
            live.emit(delta)
        except Exception:  # a reader that broke must not take its neighbours along
            log.exception("engine.reader_failed", generation_id=delta.generation_id)
            self.cancel(delta.generation_id)
