"""Streams stand still while another request's prompt is read: one step does a whole prefill for everybody."""

import numpy as np

from slipstream.profiling.diagnosis.case import Case, Floats, Steps
from slipstream.profiling.diagnosis.finding import Finding

_LONG = 3.0  # times the median step
_OWNS = 0.25  # of all decode time lies in such steps
_BY_PREFILL = 0.7  # of them overlap others' prefill for most of their length
_BY_CHANCE = 0.5  # times as many of the ordinary steps do, at most: under load somebody is always in prefill
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
    during = _during_prefill(case, steps)
    by_prefill, by_chance = float(during[long].mean()), float(during[~long].mean())
    if by_prefill < _BY_PREFILL or by_chance > _BY_CHANCE * by_prefill:
        return None
    return Finding(
        rule="prefill_stalls",
        cause="Streams stand still while the engine reads the prompt of another request.",
        evidence=(
            (
                f"{int(long.sum()):,} of {len(steps):,} decode steps took more than {_LONG:g} times the median "
                f"({usual:.1f} ms), {np.median(steps.length_ms[long]):.0f} ms in the median"
            ),
            (
                f"they are {share:.0%} of all decode time; {by_prefill:.0%} of them fell into another's prefill, and "
                f"{by_chance:.0%} of the other steps"
            ),
        ),
        remedy="shorten what is read (serving.context_tokens in the recipe; equal beginnings are read once), or what "
        "one step reads of it (PREFILL_TOKENS in engines/openvino), which makes the first token later",
        severity="high" if share >= 2 * _OWNS else "low",
    )


def _during_prefill(case: Case, steps: Steps) -> Floats:
    """1 for each step [n] of which at least half lies in prefills of other requests, else 0."""
    prefills = sorted(
        (at + span.start_ms / 1e3, at + span.end_ms / 1e3, place)
        for place, at, timing in case.placed
        for span in timing.spans
        if span.stage == "prefill"
    )
    starts, ends, owners = np.array(prefills, np.float64).reshape(-1, 3).T
    inside_s = np.zeros(len(steps))
    for place in np.unique(steps.request):
        own, others = steps.request == place, owners != place
        inside_s[own] = _covered_s(starts[others], ends[others], steps.start_s[own], steps.end_s[own])
    return (inside_s * 1e3 >= 0.5 * steps.length_ms).astype(np.float64)


def _covered_s(starts: Floats, ends: Floats, since: Floats, until: Floats) -> Floats:
    """How much of each stretch from ``since`` to ``until`` [n] the intervals [m] cover, in order of their starts.

    What several of them cover counts once: of each interval only what none before it reached.
    """
    if not len(starts):
        return np.zeros(len(since))
    reached = np.maximum.accumulate(ends)
    begins = np.maximum(starts, np.concatenate([starts[:1], reached[:-1]]))
    edges = np.column_stack([begins, reached]).ravel()
    covered = np.cumsum(np.diff(edges, prepend=edges[0]) * (np.arange(len(edges)) % 2))
    inside: Floats = np.interp(until, edges, covered) - np.interp(since, edges, covered)
    return inside


__all__ = ["check"]
