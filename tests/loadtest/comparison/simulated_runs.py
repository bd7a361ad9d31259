"""Pairs of runs whose truth is known: a noise of their own, one that the round shares, and what B truly differs by."""

from collections.abc import Mapping

import numpy as np

from slipstream.loadtest.comparison.measures import Values

TRUTH: Mapping[str, float] = {
    "ttft_p50": 180.0, "ttft_p95": 320.0, "tpot_p50": 20.0, "tpot_p95": 26.0, "itl_p95": 35.0, "e2e_p50": 1500.0,
    "e2e_p95": 2600.0, "output_tokens_per_s": 120.0, "requests_per_s": 3.0, "goodput_per_s": 2.9, "good_share": 0.97,
    "error_share": 0.0, "golden_pass_rate": 0.6, "golden_text_rate": 0.65, "output_tokens": 40.0,
}  # fmt: skip
POINTS = ("good_share", "golden_pass_rate", "golden_text_rate")


def pairs_of(
    rng: np.random.Generator,
    rounds: int,
    *,
    noise: float = 0.02,
    shared: float = 0.1,
    changed: Mapping[str, float] | None = None,
) -> list[tuple[Values, Values]]:
    """Args:
    noise: standard deviation of a run's own noise, as a share; of shares a tenth of it, in points.
    shared: of what both runs of a round have in common.
    changed: what B's true value is, as a factor of A's.
    """
    return [_pair(rng, noise, rng.lognormal(0, shared), changed or {}) for _ in range(rounds)]


def _pair(rng: np.random.Generator, noise: float, luck: float, changed: Mapping[str, float]) -> tuple[Values, Values]:
    return _run(rng, noise, luck, {}), _run(rng, noise, luck, changed)


def _run(rng: np.random.Generator, noise: float, luck: float, changed: Mapping[str, float]) -> Values:
    slow = float(luck * rng.lognormal(0, noise))  # what makes one latency of a run long makes all of them long
    values: dict[str, float | None] = {}
    for key, truth in TRUTH.items():
        value = truth * changed.get(key, 1.0)
        if key in POINTS:
            values[key] = float(np.clip(value + rng.normal(0, noise / 10), 0, 1))
        elif key == "error_share":
            values[key] = value
        elif key.startswith(("ttft", "tpot", "itl", "e2e")):
            values[key] = value * slow * float(rng.lognormal(0, noise / 2))
        else:
            values[key] = value * float(rng.lognormal(0, noise / 2))
    return values
