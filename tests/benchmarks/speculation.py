"""What speculation brings on this machine: `slipstream.build.draft.measure` on a bundle's engine, and greedy agreement.

Agreement: 100 prompts, answered greedily without and with each speculation, and without it a second time one by one.
Which of two nearly equal tokens wins is decided by the last bits of a sum, which depend on how many positions a step
computes; so two runs without speculation differ as well where their batches do, and that is the number to compare with.

Run: ``python -m tests.benchmarks.speculation --bundle DIR [--draft ENGINE_DIR]``.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def agreement(load: dict[Candidate, Callable[[], OpenVinoRuntime]], asked: list[Asked]) -> None:
    answers: dict[str, list[list[int]]] = {}
    for candidate, make in load.items():
        runtime = make()
        answers[candidate.name] = answer_all(runtime, asked, lambda *_: None)
        runtime.close()
        if candidate == NONE:
            runtime = make()
            answers["none, one by one"] = [answer_all(runtime, [one], lambda *_: None)[0] for one in asked]
            runtime.close()
    for name, given in answers.items():
        same = sum(one == other for one, other in zip(given, answers[NONE.name], strict=True))
        print(f"same answer as none, 8 streams: {name}: {same} of {len(asked)}", flush=True)


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

    def load(candidate: Candidate) -> OpenVinoRuntime:
        spoken = speculation(candidate, given.draft)
        options = RuntimeOptions(tokenizer=bundle / "tokenizer" / TOKENIZER, speculation=spoken)
        return OpenVinoRuntime(bundle / "engine", options)

    load_each: dict[Candidate, Callable[[], OpenVinoRuntime]] = {one: partial(load, one) for one in tried}
    print(f"machine: {machine()}; bundle {json.loads((bundle / 'bundle.json').read_text())['id']}")
    asked = asked_prompts(chunks, tokenizer, prompts_needed(given.rounds) + given.agreement, LIMIT, SEED)
    needed = prompts_needed(given.rounds)
    if given.rounds:
        report = measure(load_each, asked[:needed], lambda *_: None, given.rounds)
        print("\n".join(speculation_lines(report.as_dict())))
        print(json.dumps(report.as_dict()))
    if given.agreement:
        agreement(load_each, asked[needed:])


if __name__ == "__main__":
    main()
