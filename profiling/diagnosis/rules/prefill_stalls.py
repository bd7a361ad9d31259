"""Streams stand still while another request's prompt is read: one step does a whole prefill for everybody."""

import numpy as np

from slipstream.profiling.diagnosis.case import Case, Floats, Steps
from slipstream.profiling.diagnosis.finding import Finding

_LONG = 3.0  # times the median step
_OWNS = 0.25  # of all decode time lies in such steps
_BY_PREFILL = 0.7  # of them overlap another request's prefill for most of their length
_LEAST_STEPS = 50


def check(case: Case) -> Finding | None:
    """Needs decode steps whose moments are known."""
    steps = case.steps
    if len(steps) < _LEAST_STEPS:
        return None
    usual = float(np.median(steps.length_ms))
    long = steps.length_ms >= _LONG * usual
    share = float(steps.length_ms[long].sum() / steps.length_ms.sum()) if usual > 0 else 0.0
    if share < _OWNS:
        return None
    during = _during_prefill(case, steps)[long]
    if float(during.mean()) < _BY_PREFILL:
        return None
    return Finding(
        rule="prefill_stalls",
        cause="Streams stand still while the engine reads the prompt of another request.",
        evidence=(
            (
                f"{int(long.sum()):,} of {len(steps):,} decode steps took more than {_LONG:g} times the median "
                f"({usual:.1f} ms), {np.median(steps.length_ms[long]):.0f} ms in the median"
            ),
            f"they are {share:.0%} of all decode time, and {during.mean():.0%} of them fell into another's prefill",
        ),
        remedy="shorten what is read (serving.context_tokens in the recipe; equal beginnings are read once), or what "
        "one step reads of it (PREFILL_TOKENS in engines/openvino), which makes the first token later",
        severity="high" if share >= 2 * _OWNS else "low",
    )


def _during_prefill(case: Case, steps: Steps) -> Floats:
    """1 for each step [n] of which at least half lies in the prefill of another request, else 0."""
    inside = np.zeros(len(steps))
    for place, at, timing in case.placed:
        for span in timing.spans:
            if span.stage == "prefill":
                start, end = at + span.start_ms / 1e3, at + span.end_ms / 1e3
                overlap = np.minimum(steps.end_s, end) - np.maximum(steps.start_s, start)
                inside[steps.request != place] = np.maximum(inside, overlap)[steps.request != place]
    return (inside * 1e3 >= 0.5 * steps.length_ms).astype(np.float64)


__all__ = ["check"]
