"""Settings of the peer beside its defaults, so that it is met at its best and not at ours."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmarks.peer.measure import SCENARIOS, Scenario, decode_rate, interval, whole_rate
from tests.benchmarks.peer.quiet import wait_until_idle
from tests.benchmarks.peer.sides import Peer

BEST: tuple[str, ...] = ()
"""What the comparison runs it with: its defaults, flash attention among them. By processor time on one thread, an 8-bit
KV cache took 3 to 50% more than they do, and no flash attention 3 to 10%."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "flash attention": ("--flash-attn", "on"),
    "no flash attention": ("--flash-attn", "off"),
    "8-bit KV cache": ("--flash-attn", "on", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0"),
    "unified KV cache": ("--kv-unified",),
    "no prompt cache in memory": ("--cache-ram", "0"),
    "prefill 128 at once": ("--ubatch-size", "128"),
    "prefill 2,048 at once": ("--ubatch-size", "2048"),
    "no memory map": ("--load-mode", "none"),
    "always polling": ("--poll", "100"),
    "threads pinned": ("--cpu-range", "0-1", "--cpu-strict", "1"),
}


def compare_variants(
    program: Path,
    gguf: Path,
    log: Path,
    prompts: Callable[[int, int], list[list[int]]],
    patience_s: float | None,
    rounds: int = 5,
) -> None:
    """Print each variant's rate over the defaults', in the same rounds, for every scenario."""
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(Peer(program, gguf, flags, log.with_name(f"variant-{number}.log")))
            for number, (name, flags) in enumerate(VARIANTS.items())
        }
        print("| output tokens/s over those of the defaults | " + " | ".join(one.name for one in SCENARIOS) + " |")
        print("|---|" + "---|" * len(SCENARIOS))
        columns = [_column(scenario, list(sides.values()), prompts, patience_s, rounds) for scenario in SCENARIOS]
        for name, *cells in zip(sides, *columns, strict=True):
            print(f"| {name} | " + " | ".join(cells) + " |")


def _column(
    scenario: Scenario,
    sides: Sequence[Peer],
    prompts: Callable[[int, int], list[list[int]]],
    patience_s: float | None,
    rounds: int,
) -> list[str]:
    rates: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        given = prompts(scenario.streams, scenario.prompt_tokens)
        if patience_s is not None:
            wait_until_idle([side.pid for side in sides], patience_s)
        turn = number * len(sides) // rounds  # another one comes first each time
        for at in (*range(turn, len(sides)), *range(turn)):
            streams = sides[at].run(given, scenario.output_tokens)
            rates[at].append((whole_rate if scenario.whole else decode_rate)(streams))
    cells = []
    for own in rates:
        value, low, high = interval([rate / default for rate, default in zip(own, rates[0], strict=True)])
        cells.append(f"{value:.2f} [{low:.2f}–{high:.2f}]" if own is not rates[0] else f"1 ({median(own):.0f}/s)")
    return cells
