"""What speculation brings on this machine: `slipstream.build.draft.measure` on a bundle's engine, and greedy agreement.

Agreement: 100 prompts, answered greedily 8 at a time without and with each speculation, and without it one by one: all
in the batch-invariant arithmetic that speculation implies, where each answer has to be the same. Beside it the fast
arithmetic without speculation, 8 at a time and one by one, which shows what batches change there, and both speeds.

Run: ``python -m tests.benchmarks.speculation --bundle DIR [--draft ENGINE_DIR]``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from slipstream.build.calibration import source_chunks
from slipstream.build.draft.measure import NONE, ROUNDS, Candidate, measure, prompts_needed, speculation
from slipstream.build.draft.prompts import Asked, answer_all, asked_prompts
from slipstream.build.evaluation.table import speculation_lines
from slipstream.build.options import Calibration
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import RuntimeOptions
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer
from tests.benchmarks.served import machine

PROMPTS, LIMIT, SEED = 100, 896, 11


def agreement(load: Callable[..., OpenVinoRuntime], tried: Sequence[Candidate], asked: Sequence[Asked]) -> bool:
    """Print how many answers are those of the engine alone; whether all are that have to be."""
    expected, seconds = _answered(partial(load, NONE, batch_invariant=True), asked, together=False)
    print(f"batch-invariant, one by one: {len(asked)} answers in {seconds:.1f} s", flush=True)
    held = True
    for name, make, together, has_to in (
        ("batch-invariant", partial(load, NONE, batch_invariant=True), True, True),
        *((one.name, partial(load, one), True, True) for one in tried if one != NONE),
        ("fast, one by one", partial(load, NONE), False, False),
        ("fast", partial(load, NONE), True, False),
    ):
        given, seconds = _answered(make, asked, together=together)
        same = sum(one == other for one, other in zip(given, expected, strict=True))
        print(f"same answer: {name}: {same} of {len(asked)}, in {seconds:.1f} s", flush=True)
        held &= same == len(asked) or not has_to
    return held


def _answered(
    make: Callable[[], OpenVinoRuntime], asked: Sequence[Asked], *, together: bool
) -> tuple[list[list[int]], float]:
    runtime = make()
    try:
        started = perf_counter()
        batches = [asked] if together else [[one] for one in asked]
        answers = [answer for batch in batches for answer in answer_all(runtime, batch, lambda *_: None)]
        return answers, perf_counter() - started
    finally:
        runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--draft", type=Path, help="the engine of a distilled model")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--agreement", type=int, default=PROMPTS, help="prompts; 0 asks none")
    given = parser.parse_args()
    bundle: Path = given.bundle
    tokenizer = ChatTokenizer(bundle / "tokenizer")
    chunks = source_chunks(Calibration().sources)
    methods = ("prompt_lookup", "draft") if given.draft else ("prompt_lookup",)
    tried = [NONE, *(Candidate(method, length) for method in methods for length in given.lengths)]  # type: ignore[arg-type]

    def load(candidate: Candidate, *, batch_invariant: bool = False) -> OpenVinoRuntime:
        spoken = speculation(candidate, given.draft)
        file = bundle / "tokenizer" / TOKENIZER
        options = RuntimeOptions(tokenizer=file, speculation=spoken, batch_invariant=batch_invariant)
        return OpenVinoRuntime(bundle / "engine", options)

    load_each: dict[Candidate, Callable[[], OpenVinoRuntime]] = {one: partial(load, one) for one in tried}
    print(f"machine: {machine()}; bundle {json.loads((bundle / 'bundle.json').read_text())['id']}")
    asked = asked_prompts(chunks, tokenizer, prompts_needed(given.rounds) + given.agreement, LIMIT, SEED)
    needed = prompts_needed(given.rounds)
    if given.rounds:
        report = measure(load_each, asked[:needed], lambda *_: None, given.rounds)
        print("\n".join(speculation_lines(report.as_dict())))
        print(json.dumps(report.as_dict()))
    if given.agreement and not agreement(load, tried, asked[needed:]):
        sys.exit("an answer is another one with speculation than without")


if __name__ == "__main__":
    main()
