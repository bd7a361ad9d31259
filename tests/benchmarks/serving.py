"""What facade and Triton cost: the served engine against the same engine driven in this process, in one run.

Throughput: the same greedy prompts, 8 in flight, in-process and served in turn (A B B A ...), so that a drift of the
machine hits both. The outputs are the same tokens, so tokens/s compare directly. TTFT: one stream, one prompt after
the other, each sent to both. Both engines run with the bundle's own serving options.

The client shares the cores with the server, so its own cost counts against the served side.
Run: ``python -m tests.benchmarks.serving`` (after ``make run`` has built the bundle and the index).
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence

from slipstream.engines.protocols import Emit, GenerationRequest, Runtime, RuntimeOptions, Sampling, TokenDelta
from slipstream.engines.registry import runtime
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve, spread, stream_chat

STREAMS, ROUNDS, PROMPTS, MAX_TOKENS, TTFT_PAIRS = 8, 6, 24, 128, 40

SUBJECTS = (
    "a binary search", "an LRU cache", "a rate limiter", "a trie", "a thread pool", "a JSON parser", "a bloom filter",
    "a priority queue", "an event loop", "a retry decorator", "a ring buffer", "a topological sort",
)  # fmt: skip


def conversation(number: int, salt: str) -> list[dict[str, str]]:
    """A prompt no two of which share a cached prefix beyond the system words."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return [{"role": "user", "content": f"{salt}{number}: explain {subject} in Python, with an example."}]


class InProcess:
    """The engine without Triton and facade, driven as the generator model drives it."""

    def __init__(self, engine: Runtime, tokenizer: ChatTokenizer) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._count = 0

    def run(
        self, conversations: Sequence[list[dict[str, str]]], concurrency: int, max_tokens: int
    ) -> tuple[int, float]:
        """Generate all with ``concurrency`` in flight; completion tokens and wall seconds."""
        prompts = [self._tokenizer.encode_chat(messages) for messages in conversations]
        slots, tokens, lock = threading.Semaphore(concurrency), 0, threading.Lock()
        finished = threading.Semaphore(0)

        def emit(delta: TokenDelta) -> None:
            nonlocal tokens
            with lock:
                tokens += len(delta.token_ids)
            if delta.finish_reason:
                slots.release()
                finished.release()

        started = time.perf_counter()
        for prompt in prompts:
            slots.acquire()
            self._submit(prompt, max_tokens, emit)
        for _ in prompts:
            finished.acquire()
        return tokens, time.perf_counter() - started

    def ttft_s(self, messages: list[dict[str, str]]) -> float:
        """Seconds from the messages to the first token of one lone stream."""
        first, done = threading.Event(), threading.Event()

        def emit(delta: TokenDelta) -> None:
            if delta.token_ids:
                first.set()
            if delta.finish_reason:
                first.set()
                done.set()

        started = time.perf_counter()
        self._submit(self._tokenizer.encode_chat(messages), 2, emit)
        first.wait()
        elapsed = time.perf_counter() - started
        done.wait()
        return elapsed

    def _submit(self, prompt: list[int], max_tokens: int, emit: Emit) -> None:
        self._count += 1
        sampling = Sampling(max_tokens=max_tokens)
        self._engine.submit(GenerationRequest(f"in-process-{self._count}", prompt, sampling), emit)


def served_run(server: Server, conversations: Sequence[list[dict[str, str]]]) -> tuple[int, float]:
    """The same work through facade and Triton."""
    bodies: list[dict[str, object]] = [
        {"model": "slipstream-base", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0}
        for messages in conversations
    ]
    answers, wall_s = asyncio.run(closed_loop(server, bodies, STREAMS))
    return sum(answer.completion_tokens for answer in answers), wall_s


def throughput(local: InProcess, server: Server) -> None:
    rates: dict[str, list[float]] = {"in-process": [], "served": []}
    for round_number in range(ROUNDS):
        conversations = [conversation(number, f"r{round_number}-") for number in range(PROMPTS)]
        order = ("in-process", "served") if round_number % 2 == 0 else ("served", "in-process")
        counts: dict[str, int] = {}
        for side in order:
            tokens, wall_s = (
                local.run(conversations, STREAMS, MAX_TOKENS)
                if side == "in-process"
                else served_run(server, conversations)
            )
            counts[side] = tokens
            rates[side].append(tokens / wall_s)
        print(f"  round {round_number}: {counts} tokens", {side: f"{rate[-1]:.0f}/s" for side, rate in rates.items()})
    ratios = [served / alone for served, alone in zip(rates["served"], rates["in-process"], strict=True)]
    print(f"tokens/s at {STREAMS} streams, in-process: {spread(rates['in-process'], 0)}")
    print(f"tokens/s at {STREAMS} streams, facade + Triton: {spread(rates['served'], 0)}")
    print(f"ratio: {spread(ratios, 3)} (goal: 0.90)")


def added_ttft(local: InProcess, server: Server) -> None:
    added_ms: list[float] = []
    for number in range(TTFT_PAIRS):
        messages = conversation(number, "t-")
        body: dict[str, object] = {"model": "slipstream-base", "messages": messages, "max_tokens": 2, "temperature": 0}
        pair: dict[str, float] = {}
        for side in ("served", "in-process") if number % 2 else ("in-process", "served"):
            pair[side] = (
                local.ttft_s(messages) if side == "in-process" else asyncio.run(stream_chat(server, body)).ttft_s
            )
        added_ms.append((pair["served"] - pair["in-process"]) * 1e3)
    quartiles = statistics.quantiles(added_ms, n=4)
    print(
        f"added TTFT at one stream: median {quartiles[1]:.1f} ms, quartiles {quartiles[0]:.1f}–{quartiles[2]:.1f}, "
        f"{TTFT_PAIRS} pairs (goal: 15)"
    )


def in_process(bundle: Bundle) -> Runtime:
    serving = bundle.manifest.serving
    options = RuntimeOptions(max_concurrency=serving.max_concurrency, kv_cache_bytes=serving.kv_cache_bytes)
    return runtime(bundle.manifest.engine.target, bundle.engine_dir, options)


def main() -> None:
    settings = Settings()
    bundle = find_bundle(settings.bundles_dir)
    print(f"machine: {machine()}\nbundle: {bundle.manifest.release_name} {bundle.manifest.id}")
    engine = in_process(bundle)
    try:
        with serve(settings.root / "logs" / "benchmark-serving.log") as server:
            local = InProcess(engine, ChatTokenizer(bundle.tokenizer_dir))
            warm = [conversation(number, "warm-") for number in range(STREAMS)]
            local.run(warm, STREAMS, MAX_TOKENS)
            served_run(server, warm)
            throughput(local, server)
            added_ttft(local, server)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
