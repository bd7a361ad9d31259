"""The table: what each server came to in the mean of its runs, and the ratio of both with its interval."""

from collections.abc import Iterator, Sequence

from slipstream.loadtest.comparison.measures import BY_KEY, Measure
from slipstream.loadtest.peers.rounds import PeerRun
from slipstream.loadtest.statistics.bootstrap import fewest_pairs, paired_effect

CONFIDENCE = 0.95
_ROWS = (
    "ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95", "e2e_p50", "e2e_p95", "output_tokens_per_s",
    "whole_output_tokens_per_s", "requests_per_s",
    "goodput_per_s", "error_share", "output_tokens",
)  # fmt: skip

# In a run of few requests the window of the plain rate cuts answers in two, and how many it holds is luck.
_WHOLE = Measure("whole_output_tokens_per_s", "Output tokens/s, to the last answer", "tokens/s", "more")


def table(runs: Sequence[PeerRun]) -> str:
    """Markdown, a line for each number that every run has.

    A ratio is Slipstream's number over the peer's, of the means, with the interval of a paired bootstrap of rounds.
    """
    lines = [
        "| mean of the runs | better | Slipstream | llama-server | Slipstream / llama-server |",
        "|---|---|---:|---:|---:|",
    ]
    pairs = paired(runs)
    lines += [line for key in _ROWS if (line := _row(key, pairs))]
    return "\n".join(lines)


def paired(runs: Sequence[PeerRun]) -> list[tuple[PeerRun, PeerRun]]:
    """(Slipstream, peer) of every round that has both."""
    by = {(run.round, run.name): run for run in runs}
    rounds = sorted({run.round for run in runs})
    found = ((by.get((one, "slipstream")), by.get((one, "llama-server"))) for one in rounds)
    return [(ours, peer) for ours, peer in found if ours is not None and peer is not None]


def _row(key: str, pairs: Sequence[tuple[PeerRun, PeerRun]]) -> str | None:
    """None where a run has no such number."""
    ours, peer = ([pair[side].values.get(key) for pair in pairs] for side in (0, 1))
    before = [value for value in peer if value is not None]
    after = [value for value in ours if value is not None]
    if not pairs or len(before) < len(pairs) or len(after) < len(pairs):
        return None
    measure = _WHOLE if key == _WHOLE.key else BY_KEY[key]
    effect = paired_effect(before, after, CONFIDENCE, share=True)
    scale, unit = (100, "%") if measure.unit == "share" else (1, " ms" if measure.unit == "ms" else "")
    cells = (
        measure.name,
        measure.better,
        f"{scale * effect.after:,.4g}{unit}",
        f"{scale * effect.before:,.4g}{unit}",
        _ratio(effect.value, effect.low, effect.high),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    bounds = "" if low is None or high is None else f" [{1 + low:.2f}–{1 + high:.2f}]"
    return f"{1 + value:.2f}{bounds}"


def facts(runs: Sequence[PeerRun]) -> Iterator[str]:
    """How each was started, how much it was asked, and whether the rounds suffice."""
    for name in ("slipstream", "llama-server"):
        own = [run for run in runs if run.name == name]
        if own:
            asked = sum(run.prompt_tokens for run in own) / len(own)
            yield f"{name}: {own[-1].command}; {asked:,.0f} prompt tokens a request with its chat template{_lag(own)}"
    rounds, fewest = len(paired(runs)), fewest_pairs(CONFIDENCE)
    yield f"{rounds} rounds" + ("" if rounds >= fewest else f"; an interval needs {fewest}")


def _lag(runs: Sequence[PeerRun]) -> str:
    """How late the load was sent in the worst run: a server that keeps the cores busy delays the sender beside it."""
    lags = [lag for run in runs if (lag := run.values.get("lag_p99")) is not None]
    return f"; sent at most {max(lags):.0f} ms late (p99 of a run)" if lags else ""


__all__ = ["CONFIDENCE", "facts", "paired", "table"]
