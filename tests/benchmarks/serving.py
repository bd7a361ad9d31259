"""What facade and Triton cost: the served engine against the same engine driven in this process, in one run.

Throughput: the same greedy prompts, 8 in flight, in-process and served in turn (A B B A ...), so that a drift of the
machine hits both. The outputs are the same tokens, so tokens/s compare directly. TTFT: one stream, one prompt after
the other, each sent to both. Both engines run with the bundle's own serving options.

The client shares the cores with the server, so its own cost counts against the served side.
Run: ``python -m tests.benchmarks.serving`` (after ``make run`` has built the bundle and the index).
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence

from slipstream.engines.openvino.pipeline import EngineConfig, Generation, add_request, load_pipeline
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings
from tests.benchmarks.served import Server, closed_loop, machine, serve, spread, stream_chat

STREAMS, ROUNDS, PROMPTS, MAX_TOKENS, TTFT_PAIRS = 8, 12, 24, 128, 40

SUBJECTS = (
    "a binary search", "an LRU cache", "a rate limiter", "a trie", "a thread pool", "a JSON parser", "a bloom filter",
    "a priority queue", "an event loop", "a retry decorator", "a ring buffer", "a topological sort",
)  # fmt: skip


def conversation(number: int, salt: str) -> list[dict[str, str]]:
    """A prompt no two of which share a cached prefix beyond the system words."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return [{"role": "user", "content": f"{salt}{number}: explain {subject} in Python, with an example."}]


class InProcess:
    """The bare engine: a loop over `ContinuousBatchingPipeline.step` in this process, nothing else around it."""

    def __init__(self, bundle: Bundle) -> None:
        serving = bundle.manifest.serving
        options = RuntimeOptions(max_concurrency=serving.max_concurrency, kv_cache_bytes=serving.kv_cache_bytes)
        self._config = EngineConfig(bundle.engine_dir, options)
        self._pipeline = load_pipeline(bundle.engine_dir, options, self._config)
        self._tokenizer = ChatTokenizer(bundle.tokenizer_dir)
        self._numbers = itertools.count()

    def run(
        self, conversations: Sequence[list[dict[str, str]]], concurrency: int, max_tokens: int
    ) -> tuple[int, float]:
        """Generate all with ``concurrency`` in flight; completion tokens and wall seconds."""
        started = time.perf_counter()
        waiting = [self._tokenizer.encode_chat(messages) for messages in reversed(conversations)]
        running: list[Generation] = []
        tokens = 0
        while waiting or running:
            while waiting and len(running) < concurrency:
                running.append(self._add(waiting.pop(), max_tokens))
            self._pipeline.step()
            for generation in list(running):
                new, finish, error = generation.read()
                tokens += len(new)
                if error:
                    raise RuntimeError(error)
                if finish:
                    running.remove(generation)
        return tokens, time.perf_counter() - started

    def ttft_s(self, messages: list[dict[str, str]]) -> float:
        """Seconds from the messages to the first token of one lone stream."""
        started = time.perf_counter()
        generation = self._add(self._tokenizer.encode_chat(messages), 2)
        new: list[int] = []
        finish: str | None = None
        first: float | None = None
        while not finish:
            self._pipeline.step()
            new, finish, _ = generation.read()
            if new and first is None:
                first = time.perf_counter()
        return (first or time.perf_counter()) - started

    def _add(self, prompt: list[int], max_tokens: int) -> Generation:
        request = GenerationRequest("", prompt, Sampling(max_tokens=max_tokens))
        return add_request(self._pipeline, next(self._numbers), request, self._config)


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


def main() -> None:
    settings = Settings()
    bundle = find_bundle(settings.bundles_dir)
    print(f"machine: {machine()}\nbundle: {bundle.manifest.release_name} {bundle.manifest.id}")
    local = InProcess(bundle)
    with serve(settings.root / "logs" / "benchmark-serving.log") as server:
        warm = [conversation(number, "warm-") for number in range(STREAMS)]
        local.run(warm, STREAMS, MAX_TOKENS)
        served_run(server, warm)
        throughput(local, server)
        added_ttft(local, server)


if __name__ == "__main__":
    main()
