"""The engine process: one thread, one step for all live requests. Started by `runtime` as ``python -m``.

`ContinuousBatchingPipeline.step` keeps the GIL from its beginning to its end (2026.4), 10 to 20 ms with eight sequences
of SmolLM2-135M on two cores and 200 ms while a prompt is prefilled. In the server's process every other thread would
run between two steps only; so the engine has a process of its own, and a crash in it takes nothing else along.

A step prefills up to ``max_num_batched_tokens`` of waiting prompts and advances every running sequence by one token
(dynamic split-fuse). Submissions and cancels are read in between, so both wait for one step at most.
"""

import argparse
import faulthandler
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.engines.openvino.grammars import Grammars
from slipstream.engines.openvino.link import Link, Message
from slipstream.engines.openvino.pipeline import EngineConfig, Generation, add_request, load_pipeline
from slipstream.engines.openvino.ranges import Ranges
from slipstream.engines.openvino.speculation import from_words
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling
from slipstream.profiling.spans import now_ns, span

# A load that takes longer writes every thread's stack to standard error, which is Triton's log.
_SLOW_LOAD_S = 60.0
# How long messages wait at most while no sequence runs and a grammar is compiled.
_COMPILING_S = 0.01

_Delta = tuple[int, list[int], str | None, str]


class Worker:
    """Serves the requests that come over ``link`` with ``pipeline``, at most ``slots`` at once, oldest first.

    A request whose grammar is being compiled lets younger ones pass. Without ``grammars`` no request may have one.
    Where the pipeline speculates, a request waits until its longest answer has room in the KV cache: a draft and its
    engine that run out of blocks together wait for each other for ever (2026.4). Others make room in the pipeline.
    """

    def __init__(
        self, pipeline: Any, link: Link, slots: int, config: EngineConfig, grammars: Grammars | None = None
    ) -> None:
        self._pipeline = pipeline
        self._link = link
        self._slots = slots
        self._config = config
        self._grammars = grammars
        self._blocks: dict[int, int] = {}  # of the KV cache, kept for running requests where the pipeline speculates
        self._waiting: deque[tuple[int, GenerationRequest]] = deque()
        self._running: dict[int, Generation] = {}
        self._dropped = False  # a request was cancelled in the pipeline, which frees its blocks in a step
        self._steps = 0  # since the last report
        self._cache_usage_ratio = 0.0
        self._proposed = self._accepted = 0  # draft tokens since the last report
        self._taken: list[tuple[int, int]] = []  # requests that the pipeline took since the last report, and when
        self._ranges = Ranges()

    def run(self) -> None:
        """Until the other end closes the link."""
        while True:
            busy = bool(self._running or self._waiting or self._dropped)
            messages = self._link.receive(wait=not busy)
            if messages is None:
                return
            self._report(self._take(messages) + self._admit())
            if self._running or self._dropped:
                self._report(*self._step())
            elif self._waiting and self._grammars is not None:
                self._grammars.wait(_COMPILING_S)

    def _take(self, messages: list[Message]) -> list[_Delta]:
        deltas: list[_Delta] = []
        for message in messages:
            if message[0] == "submit":
                _, number, prompt_ids, sampling, grammar, request_id = message
                request = GenerationRequest("", prompt_ids, Sampling(*sampling), grammar, request_id)
                self._waiting.append((number, request))
                self._ranges.enter(number, "queue", request_id)
            elif self._cancel(message[1]):
                deltas.append((message[1], [], "cancelled", ""))
        return deltas

    def _cancel(self, number: int) -> bool:
        """Drop a request wherever it is; False if it ended in the meantime."""
        self._ranges.leave(number)
        generation = self._running.pop(number, None)
        if generation is not None:
            generation.cancel()
            self._blocks.pop(number, None)
            self._dropped = True
            return True
        before = len(self._waiting)
        self._waiting = deque(entry for entry in self._waiting if entry[0] != number)
        return len(self._waiting) < before

    def _admit(self) -> list[_Delta]:
        """Move waiting requests into free slots; what the pipeline refuses ends here.

        The pipeline could queue them itself, but it looks up a cached prefix when a request is added: one added early
        would pin that prefix while it waits, and miss those that come into the cache meanwhile.
        """
        refused: list[_Delta] = []
        compiling: deque[tuple[int, GenerationRequest]] = deque()
        free = self._slots - len(self._running)
        if self._config.reads_whole_prompts:
            free = min(free, 1)  # for the next step only: it is as long as the prompts that it reads
        full = len(self._running) + free
        while self._waiting and len(self._running) < full:
            number, request = self._waiting.popleft()
            if self._config.speculation and not self._reserve(number, request):
                self._waiting.appendleft((number, request))
                break
            try:
                if self._grammars is not None and not self._grammars.is_ready(request.grammar):
                    compiling.append((number, request))
                    self._blocks.pop(number, None)
                    continue
                taken = number, now_ns()
                self._ranges.enter(number, "prefill", request.request_id)
                self._running[number] = add_request(self._pipeline, number, request, self._config)
                self._taken.append(taken)
            except Exception as error:  # whatever the engine throws, its caller must hear of it
                self._blocks.pop(number, None)
                self._ranges.leave(number)
                refused.append((number, [], "error", f"the engine refused the request: {error}"))
        self._waiting.extendleft(reversed(compiling))
        return refused

    def _reserve(self, number: int, request: GenerationRequest) -> bool:
        """Keep the blocks that ``request`` may come to need; False while others have them."""
        blocks = self._config.blocks_for(request)
        if sum(self._blocks.values()) + blocks > self._config.kv_blocks:
            return False
        self._blocks[number] = blocks
        return True

    def _step(self) -> tuple[list[_Delta], int]:
        """What one step brought, and when it ended."""
        with span("step", len(self._running)) as step:
            self._pipeline.step()
        self._steps += 1
        self._dropped = False
        self._cache_usage_ratio = self._pipeline.get_metrics().cache_usage / 100
        deltas: list[_Delta] = []
        for number, generation in list(self._running.items()):
            tokens, reason, error = generation.read()
            if reason:
                del self._running[number]
                self._blocks.pop(number, None)
            if generation.account is not None:
                proposed, accepted = generation.account.take()
                self._proposed += proposed
                self._accepted += accepted
            if tokens or reason:
                deltas.append((number, tokens, reason, error))
                self._ranges.advance(number, is_last=bool(reason))
        return deltas, step.end_ns

    def _report(self, deltas: list[_Delta], step_ns: int = 0) -> None:
        if deltas:
            told = [self._steps, self._cache_usage_ratio, self._proposed, self._accepted, step_ns, self._taken]
            self._link.send(["deltas", deltas, *told])
            self._steps = self._proposed = self._accepted = 0
            self._taken = []


def _grammars(pipeline: Any, config: EngineConfig, named: Sequence[str]) -> Grammars:
    """Those for ``pipeline``, the ``named`` ones compiled.

    Raises:
        GrammarUnreadable: one of them is none.
    """
    grammars = Grammars(pipeline.get_tokenizer(), config.vocabulary_size, config.eos_token_ids)
    for grammar in named:
        grammars.compile(grammar)
        if config.speculation is not None and config.speculation.engine is not None:
            _compile_for_draft(pipeline, config, grammar)
    return grammars


def _compile_for_draft(pipeline: Any, config: EngineConfig, grammar: str) -> None:
    """Have the draft compile ``grammar``: its tokenizer is its own, and nobody else can reach it.

    It does so when it first proposes. One that was not named costs a step about 0.1 s.
    """
    request = GenerationRequest("", [0], Sampling(max_tokens=3), grammar)
    generation = add_request(pipeline, 0, request, config)
    while generation.read()[1] is None:
        pipeline.step()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine_dir", type=Path)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--kv-cache-bytes", type=int, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--speculation", type=from_words)
    parser.add_argument("--batch-invariant", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runtime, which ends this process in its own time
    link = Link(socket.socket(fileno=given.socket))
    ((_, named),) = link.receive() or (("prepare", ()),)
    options = RuntimeOptions(
        given.slots,
        given.kv_cache_bytes,
        given.threads,
        given.tokenizer,
        tuple(named),
        given.speculation,
        batch_invariant=given.batch_invariant,
    )
    faulthandler.dump_traceback_later(_SLOW_LOAD_S)
    try:
        config = EngineConfig(given.engine_dir, options)
        pipeline = load_pipeline(given.engine_dir, options, config)
        grammars = _grammars(pipeline, config, options.grammars) if options.tokenizer else None
    except (InputError, RuntimeError) as error:
        with suppress(ConnectionError):
            link.send(["broken", str(error)])
        return
    faulthandler.cancel_dump_traceback_later()
    try:
        link.send(["ready"])
        Worker(pipeline, link, options.max_concurrency, config, grammars).run()
    except ConnectionError:
        pass  # the runtime is gone, and so is everybody who waited
    except Exception as error:  # the state of the engine is unknown now: say why, and let the runtime start another
        link.send(["broken", f"{type(error).__name__}: {error}"])
    # What the pipeline holds ends with the process; its destructors would complain of live requests.
    os._exit(0)


if __name__ == "__main__":
    main()
