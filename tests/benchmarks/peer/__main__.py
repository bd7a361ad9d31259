"""The engine against its peer: `OpenVinoRuntime` beside `llama-server`, same base model, same cores, in one run.

Both have the base model at 4 bits with 8-bit embeddings: the peer the GGUF file itself, ours the engine that the
recipe's quantization makes of it, without an adapter. Both get the same token ids, greedy, in turn (A B B A ...); no
two prompts begin alike. Rates are by the clock; beside it stands the ratio to what the peer's own ``timings`` say, so
that HTTP explains nothing, and the ratio of the processor time that both took for the same tokens, which is the fairer
one on a busy machine. The settings of the peer are the best of those that ``--variants`` compares.

Run: ``python -m tests.benchmarks.peer`` (compiles `llama-server` first: minutes, once; then about 15 minutes).
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.loadtest.peers.llama_cpp import VERSION, llama_server
from slipstream.settings import Settings
from tests.benchmarks.peer import base_engine
from tests.benchmarks.peer.measure import SCENARIOS, Result, agreement, interval, measure, real_prompts
from tests.benchmarks.peer.quiet import IDLE_SHARE
from tests.benchmarks.peer.sides import Ours, Peer
from tests.benchmarks.peer.variants import BEST, compare_variants
from tests.benchmarks.served import machine, spread

_QUESTIONS = ("Write a Python function that reverses a string.", "What is the capital of France?", "Name three fruits.")
_ANSWER_TOKENS = 40
_AGREEMENT = (32, 96)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="default", help="whose base model and quantization are ours")
    parser.add_argument("--gguf", type=Path, help="another file for the peer, instead of the base model's own")
    parser.add_argument("--json", type=Path, help="write every run there, too")
    parser.add_argument("--variants", action="store_true", help="compare settings of the peer instead")
    parser.add_argument("--rounds", type=int, help="of each scenario, instead of its own number")
    parser.add_argument("--only", choices=[one.name for one in SCENARIOS], help="this scenario and no other")
    parser.add_argument("--busy", action="store_true", help="measure though other processes compute")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for the machine to be idle")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # both engines end with us
    settings = Settings()
    home = settings.cache_dir if "SLIPSTREAM_HOME" in os.environ else Path(".cache").resolve()
    program = llama_server(home / "peer")
    same = base_engine.build(given.recipe, settings, lambda share, doing: None)
    gguf = given.gguf or same.gguf
    tokenizer = ChatTokenizer(same.tokenizer_dir)
    prompts, patience_s = real_prompts(tokenizer), None if given.busy else given.patience
    print(f"machine: {machine()}")
    print(f"slipstream: openvino-genai {version('openvino-genai')}, {same.quantization}")
    print(f"peer: llama-server of llama-cpp-python {VERSION}, {gguf.name}, {' '.join(BEST) or 'as it comes'}\n")
    log = home / "peer" / "llama-server.log"
    if given.variants:
        compare_variants(program, gguf, log, prompts, patience_s)
        return
    with Ours(same.engine_dir) as ours, Peer(program, gguf, BEST, log) as peer:
        _show_answers(ours, peer, tokenizer)
        same_next = agreement(ours, peer, prompts(*_AGREEMENT))
        print(f"same next token after {_AGREEMENT[0]} prompts of {_AGREEMENT[1]} tokens: {same_next:.0%}\n")
        results = [
            measure(replace(one, rounds=given.rounds or one.rounds), ours, peer, prompts, patience_s)
            for one in SCENARIOS
            if given.only in (None, one.name)
        ]
    print(_table(results))
    if given.json:
        facts = {"machine": machine(), "peer": VERSION, "flags": BEST, "quantization": same.quantization}
        written = facts | {"gguf": gguf.name, "results": [result.as_json() for result in results]}
        given.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _show_answers(ours: Ours, peer: Peer, tokenizer: ChatTokenizer) -> None:
    """Speed is worth nothing if the text is: the first words of both, which also warms both up."""
    for question in _QUESTIONS:
        prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
        print(f"{question}")
        for side in (ours, peer):
            (stream,) = side.run([prompt], _ANSWER_TOKENS, ignore_eos=False)
            print(f"  {side.name:13} {tokenizer.decode(stream.token_ids)!r}")
    print()


def _table(results: Sequence[Result]) -> str:
    """Markdown; medians with (minimum–maximum), ratios with [95% bootstrap interval]."""
    columns = ("output tokens/s", "slipstream", "llama-server", "ratio", "to the peer's own timings")
    heads = (*columns, "by processor time", "goal", "TTFT")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for result in results:
        ratios = (result.ratios(), result.ratios(by_own=True), result.cpu_ratios())
        rates = [spread([run.rate for run in runs]) for runs in (result.ours, result.peer)]
        ours, peer = (f"{median(run.ttft_s for run in runs) * 1e3:,.0f}" for runs in (result.ours, result.peer))
        goal = f"≥ {result.scenario.goal}: {_word(result.ratios(), result.scenario.goal)}"
        cells = (result.scenario.name, *rates, *map(_ratio, ratios), goal, f"{ours} and {peer} ms")
        lines.append(f"| {' | '.join(cells)} |")
    others = [run.others for result in results for run in (*result.ours, *result.peer)]
    busy = f"Other processes took {median(others):.1%} of the processors in the median run, {max(others):.1%} at most"
    return "\n".join([*lines, "", f"{busy} (idle: {IDLE_SHARE:.0%})."])


def _word(ratios: Sequence[float], goal: float) -> str:
    """Whether the ratio reaches ``goal``: said of its whole interval, and "open" where the goal lies inside it."""
    _, low, high = interval(ratios)
    return "met" if low >= goal else "missed" if high < goal else "open"


def _ratio(ratios: Sequence[float]) -> str:
    value, low, high = interval(ratios)
    return f"{value:.2f} [{low:.2f}–{high:.2f}]"


if __name__ == "__main__":
    main()
