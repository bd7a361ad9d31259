"""What the runtime costs: tokens from `OpenVinoRuntime` against a bare loop over the same pipeline, in one run.

The bare loop steps, counts and does nothing else, in this process; the runtime has its engine process, its queue and
its callbacks. Both get the same prompts, none of which shares a prefix with another, in turn (A B B A ...), so that a
drift of the machine hits both. CPU seconds are those of every process involved: on a busy machine they are the fairer
ratio.

Run: ``python -m tests.benchmarks.engine --engine DIR``, with the ``engine`` folder of a bundle.
"""

import argparse
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from slipstream.engines.openvino.pipeline import EngineConfig, add_request, load_pipeline
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from tests.benchmarks.served import machine, spread

PROMPT_TOKENS, OUTPUT_TOKENS, STREAMS, ROUNDS = 600, 128, (1, 8), 6
SAMPLING = Sampling(max_tokens=OUTPUT_TOKENS, ignore_eos=True)

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Run:
    """``decode_rate`` counts from the moment the last prompt is prefilled, tokens/s over all streams."""

    rate: float
    decode_rate: float
    first_ttft_s: float
    cpu_s: float


class Clock:
    """Marks the arrival of tokens of ``streams`` generations; one thread at a time."""

    def __init__(self, processes: Sequence[psutil.Process], streams: int) -> None:
        self._processes, self._streams = processes, streams
        self._firsts: dict[int, float] = {}
        self._tokens = self._tokens_after_prefill = 0
        self._cpu_s = self._cpu()
        self._start = time.perf_counter()

    def mark(self, number: int, tokens: int) -> None:
        prefilled = len(self._firsts) == self._streams
        self._tokens += tokens
        self._tokens_after_prefill += tokens if prefilled else 0
        if tokens and number not in self._firsts:
            self._firsts[number] = time.perf_counter()

    def stop(self) -> Run:
        end = time.perf_counter()
        assert self._tokens == self._streams * OUTPUT_TOKENS
        return Run(
            rate=self._tokens / (end - self._start),
            decode_rate=self._tokens_after_prefill / (end - max(self._firsts.values())),
            first_ttft_s=min(self._firsts.values()) - self._start,
            cpu_s=self._cpu() - self._cpu_s,
        )

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)


class BareLoop:
    """The pipeline in this process, stepped as fast as it goes."""

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self._config = EngineConfig(engine_dir, options)
        self._pipeline: Any = load_pipeline(engine_dir, options, self._config)
        self._count = 0

    def run(self, prompts: Prompts) -> Run:
        clock = Clock([psutil.Process()], len(prompts))
        generations = []
        for prompt in prompts:
            self._count += 1
            request = GenerationRequest(str(self._count), prompt, SAMPLING)
            generations.append(add_request(self._pipeline, self._count, request, self._config))
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for number, generation in enumerate(generations):
                clock.mark(number, len(generation.read()[0]))
        return clock.stop()


class ThroughRuntime:
    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        self.runtime = OpenVinoRuntime(engine_dir, options)
        self.process = psutil.Process(self.runtime.pid)
        self._count = 0

    def run(self, prompts: Prompts) -> Run:
        finished = threading.Semaphore(0)
        clock = Clock([psutil.Process(), self.process], len(prompts))

        def submit(number: int, prompt: Sequence[int]) -> None:
            def emit(delta: TokenDelta) -> None:
                clock.mark(number, len(delta.token_ids))
                if delta.finish_reason:
                    finished.release()

            self._count += 1
            self.runtime.submit(GenerationRequest(str(self._count), prompt, SAMPLING), emit)

        for number, prompt in enumerate(prompts):
            submit(number, prompt)
        for _ in prompts:
            finished.acquire()
        return clock.stop()


def unlike_prompts(count: int, seed: int, vocabulary_size: int) -> list[list[int]]:
    choose = random.Random(seed)  # noqa: S311
    return [[choose.randrange(1000, vocabulary_size) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def compare(bare: BareLoop, through: ThroughRuntime, streams: int, vocabulary_size: int) -> None:
    bare_runs, runs = [], []
    for number in range(ROUNDS):
        prompts = unlike_prompts(streams, 100 * streams + number, vocabulary_size)
        if number % 2:
            runs.append(through.run(prompts))
            bare_runs.append(bare.run(prompts))
        else:
            bare_runs.append(bare.run(prompts))
            runs.append(through.run(prompts))
    pairs = list(zip(runs, bare_runs, strict=True))
    print(f"{streams} stream(s), {PROMPT_TOKENS} prompt and {OUTPUT_TOKENS} output tokens, {ROUNDS} pairs:")
    print(f"  tokens/s: runtime {spread([run.rate for run in runs])}, bare {spread([run.rate for run in bare_runs])}")
    print(
        f"  tokens/s after prefill: runtime {spread([run.decode_rate for run in runs])}, "
        f"bare {spread([run.decode_rate for run in bare_runs])}"
    )
    print(f"  time to the first token: runtime {median(run.first_ttft_s for run in runs) * 1e3:.0f} ms")
    print(f"  ratio: {spread([run.rate / other.rate for run, other in pairs], 3)} (goal: 0.97)")
    print(f"  ratio of CPU seconds: {spread([run.cpu_s / other.cpu_s for run, other in pairs], 3)} (goal: 1.03)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--threads", type=int, help="of each side's engine; every core otherwise")
    given = parser.parse_args()
    engine_dir: Path = given.engine
    options = RuntimeOptions(threads=given.threads)
    vocabulary_size = EngineConfig(engine_dir, options).vocabulary_size
    print(f"machine: {machine()}")
    through = ThroughRuntime(engine_dir, options)
    print(f"resident after load: {through.process.memory_info().rss / 1e6:.0f} MB")
    bare = BareLoop(engine_dir, options)
    try:
        for side in (through, bare):
            side.run(unlike_prompts(1, 0, vocabulary_size))
        for streams in STREAMS:
            compare(bare, through, streams, vocabulary_size)
        print(f"resident after these: {through.process.memory_info().rss / 1e6:.0f} MB")
    finally:
        through.runtime.close()


if __name__ == "__main__":
    main()
