"""What the grammar of citations costs and brings: constrained against free answers to the same prompts, in one run.

Questions, packages and collection are those of `tests.benchmarks.citations`; retrieval is done once, and each prompt is
answered free, constrained, and free again, in turn, by one engine through one `Generator` each. Free against free is
what differs without any grammar (how a batch is composed changes a sum in its last bits). Once greedily, and once
sampled at temperature 1 with the seed of the prompt's number.

An answer cites the right context when it cites one that holds the symbol the question names; that is asked where the
prompt holds one. Rates: prompts cached and equal lengths, so only decoding differs; on a busy machine the ratio of CPU
seconds is the fairer one.

Run: ``python -m tests.benchmarks.constrained`` with a home that has a bundle and the collection ``code``.
"""

import argparse
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import psutil

from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.contracts import ErrorCode, Hit, SearchRequest, SearchResult
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.generation import Question, Response
from slipstream.ensemble.generator import Generator
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.stores import open_store
from slipstream.ensemble.retriever import Retriever
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer
from slipstream.settings import Settings
from tests.benchmarks.citations import questions
from tests.benchmarks.served import machine, spread

COLLECTION, STREAMS, MAX_TOKENS = "code", 8, 128
RATE_STREAMS, RATE_ROUNDS, RATE_TOKENS = (1, 8), 6, 96
_SYMBOL = re.compile(r"`(\w+)`")


@dataclass(frozen=True)
class Prompt:
    question: str
    ids: list[int]
    result: SearchResult

    def holding_symbol(self) -> set[int]:
        """Numbers of the contexts whose own symbol is the one the question names."""
        named = _SYMBOL.search(self.question)
        hits: Sequence[Hit] = self.result.hits
        return {at for at, hit in enumerate(hits, 1) if named and hit.symbol.split(".")[-1] == named[1]}


@dataclass
class Answer:
    text: str = ""
    tokens: int = 0
    finish: str = ""
    first_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, response: Response) -> None:
        if response.text and not self.text:
            self.first_s = time.perf_counter() - self.started
        self.text += response.text
        self.tokens, self.finish = response.completion_tokens, response.finish_reason
        if self.finish:
            self.ended.set()

    def fail(self, code: ErrorCode, message: str) -> None:
        self.finish = f"{code}: {message}"
        self.ended.set()

    def is_gone(self) -> bool:
        return False


def retrieve(bundle: Bundle, tokenizer: ChatTokenizer, count: int) -> list[Prompt]:
    embedder = Embedder(bundle.embedder_dir)
    searcher = Searcher(open_store(Settings()), bundle.manifest.embedder.digest)
    serving = bundle.manifest.serving
    retriever = Retriever(searcher.search, tokenizer, serving.context_tokens, serving.context_margin)
    prompts = []
    asked = questions()
    for question in asked[:: max(1, len(asked) // count)]:
        vector = [float(value) for value in embedder.embed([question])[0]]
        request = SearchRequest(query=question, collection=COLLECTION)
        found = retriever.retrieve(vector, [{"role": "user", "content": question}], request, MAX_TOKENS)
        prompts.append(Prompt(question, found.prompt_ids, found.result))
    return prompts


def answer_all(
    generator: Generator, prompts: Sequence[Prompt], first: int, temperature: float, label: str
) -> list[Answer]:
    """``prompts`` at once; ``first`` is the number of the first of them, and their seed."""
    answers = []
    for number, prompt in enumerate(prompts, first):
        sampling = Sampling(MAX_TOKENS, temperature, seed=number)
        hits = prompt.result.model_dump_json()
        answers.append(Answer())
        generator.submit(Question(f"{label}-{temperature}-{number}", prompt.ids, sampling, (), hits), answers[-1])
    for answer in answers:
        assert answer.ended.wait(300)
        assert answer.finish in ("stop", "length"), answer.finish
    return answers


def compare(free: Generator, constrained: Generator, prompts: Sequence[Prompt], temperature: float) -> None:
    sides = {"free": free, "constrained": constrained, "free again": free}
    answers: dict[str, list[Answer]] = {label: [] for label in sides}
    for first in range(0, len(prompts), STREAMS):
        batch = prompts[first : first + STREAMS]
        turn = list(sides) if first // STREAMS % 2 else list(sides)[::-1]
        if first == 0:
            answer_all(free, batch, first, temperature, "prefill")
        for label in turn:
            answers[label] += answer_all(sides[label], batch, first, temperature, label)
    print(f"temperature {temperature:g}, {len(prompts)} prompts, at most {MAX_TOKENS} tokens:")
    for label, given in answers.items():
        score(label, prompts, given)
    same = [sum(a.text == b.text for a, b in zip(answers["free"], answers[label], strict=True)) for label in sides]
    print(f"  same text as free: constrained {same[1]}, free again {same[2]}")


def score(label: str, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> None:
    pairs = list(zip(prompts, answers, strict=True))
    marks = [(number, len(prompt.result.hits)) for prompt, answer in pairs for number in cited_numbers(answer.text)]
    valid = sum(1 <= number <= contexts for number, contexts in marks)
    cited = sum(bool(cited_numbers(answer.text)) for _, answer in pairs)
    asked = [(prompt.holding_symbol(), set(cited_numbers(answer.text))) for prompt, answer in pairs]
    asked = [(holding, cited) for holding, cited in asked if holding]
    right = sum(bool(holding & cited) for holding, cited in asked)
    cut = [answer for _, answer in pairs if answer.finish == "length"]
    cut_uncited = sum(not cited_numbers(answer.text) for answer in cut)
    print(
        f"  {label:12} valid marks {valid} of {len(marks)}, cited {cited / len(pairs):.1%}, "
        f"right context {right} of {len(asked)}, tokens {mean(answer.tokens for answer in answers):.1f}, "
        f"cut {len(cut)} (before any mark: {cut_uncited})"
    )


class Rates:
    """Decode rates of ``runtime`` with and without the grammar: same prompts, whole lengths, prefixes cached."""

    def __init__(self, runtime: OpenVinoRuntime, prompts: Sequence[Prompt]) -> None:
        self._runtime, self._prompts = runtime, prompts
        self._engine = psutil.Process(runtime.pid)
        self._count = 0

    def run(self, streams: int, *, constrained: bool) -> tuple[float, float]:
        """Tokens/s over all streams from the first token of the last prompt on, and CPU seconds of the engine."""
        cpu_s = sum(self._engine.cpu_times()[:2])
        ended = threading.Semaphore(0)
        firsts: dict[str, float] = {}
        late = [0]

        def emit(delta: TokenDelta) -> None:
            if len(firsts) == streams:
                late[0] += len(delta.token_ids)
            if delta.token_ids:
                firsts.setdefault(delta.generation_id, time.perf_counter())
            if delta.finish_reason:
                ended.release()

        for prompt in self._prompts[:streams]:
            self._count += 1
            grammar = citing_grammar(len(prompt.result.hits)) if constrained else ""
            sampling = Sampling(RATE_TOKENS, ignore_eos=True)
            self._runtime.submit(GenerationRequest(f"rate-{self._count}", prompt.ids, sampling, grammar), emit)
        for _ in range(streams):
            ended.acquire()
        rate = late[0] / (time.perf_counter() - max(firsts.values()))
        return rate, sum(self._engine.cpu_times()[:2]) - cpu_s

    def compare(self, streams: int) -> None:
        self.run(streams, constrained=True)  # compiles and prefills
        free, constrained = [], []
        for number in range(RATE_ROUNDS):
            for side in (False, True) if number % 2 else (True, False):
                (constrained if side else free).append(self.run(streams, constrained=side))
        pairs = list(zip(constrained, free, strict=True))
        print(
            f"{streams} stream(s): constrained {spread([rate for rate, _ in constrained])} tokens/s, "
            f"free {spread([rate for rate, _ in free])}, "
            f"ratio {spread([ours[0] / other[0] for ours, other in pairs], 3)}, "
            f"ratio of the engine's CPU seconds {spread([ours[1] / other[1] for ours, other in pairs], 3)}"
        )


def first_tokens(runtime: OpenVinoRuntime, prompt: Prompt) -> None:
    """What a grammar adds to the first token: when it is new, and when the engine has seen it."""
    process = psutil.Process(runtime.pid)

    def first_s(grammar: str) -> float:
        done = threading.Event()
        started = time.perf_counter()
        request = GenerationRequest(f"ttft-{started}", prompt.ids, Sampling(1), grammar)
        runtime.submit(request, lambda delta: done.set() if delta.finish_reason else None)
        assert done.wait(60)
        return time.perf_counter() - started

    for _ in range(2):
        first_s("")
    free = [first_s("") for _ in range(12)]
    numbers = range(81, 91)  # no prompt has as many contexts, so the engine has not compiled these
    before = process.memory_info().rss
    new = [first_s(citing_grammar(number)) for number in numbers]
    grown = (process.memory_info().rss - before) / len(numbers)
    seen = [first_s(citing_grammar(number)) for number in numbers]
    print(
        f"time to the first token, prompt cached: free {median(free) * 1e3:.0f} ms, with a grammar new to the engine "
        f"{median(new) * 1e3:.0f} ms, with one it knows {median(seen) * 1e3:.0f} ms; {grown / 1e6:.2f} MB a grammar"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--bundle", help="path, id or release name; the active one otherwise")
    parser.add_argument("--temperatures", type=float, nargs="*", default=[0.0, 1.0])
    given = parser.parse_args()
    bundle = find_bundle(Settings().bundles_dir, given.bundle)
    tokenizer = ChatTokenizer(bundle.tokenizer_dir)
    prompts = retrieve(bundle, tokenizer, given.questions)
    tokenizer_file: Path = bundle.tokenizer_dir / TOKENIZER
    runtime = OpenVinoRuntime(bundle.engine_dir, RuntimeOptions(tokenizer=tokenizer_file))
    sides = [Generator(runtime, tokenizer, constrained=constrained) for constrained in (False, True)]
    print(f"machine: {machine()}; bundle {bundle.manifest.release_name} ({bundle.manifest.id})")
    try:
        first_tokens(runtime, prompts[0])
        rates = Rates(runtime, prompts)
        for streams in RATE_STREAMS:
            rates.compare(streams)
        for temperature in given.temperatures:
            compare(*sides, [prompt for prompt in prompts if prompt.result.hits], temperature)
    finally:
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
