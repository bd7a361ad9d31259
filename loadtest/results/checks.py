"""Whether a run measured what it says: what the generator itself did to it, and cross-checks of its own numbers.

A check that is ``void`` takes every verdict back: the numbers are not those of the server. A ``warning`` stands
beside the verdict. ``unchecked`` says that what the check needs was not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.window import Window, in_flight
from slipstream.loadtest.scenario import Closed, Ramp, Scenario
from slipstream.loadtest.statistics.order import quantile_rank

Status = Literal["ok", "warning", "void", "unchecked"]

LAG_LEVEL = 0.99
TOKEN_TOLERANCE = 0.02
LAW_TOLERANCE = 0.02
STEADY_TOLERANCE = 0.10
REPEATS_TOLERANCE = 0.10
_MOMENT_S = 0.001  # times are written to the microsecond; a plan's and a sample's may differ by that
_UNWIND_S = 5.0  # what closing a connection may take after a time-out
_LAST_S = 1.0  # arrivals due so shortly before a run is stopped need not have been sent


@dataclass(frozen=True)
class Check:
    """One check: what was found, the bound it is held to, and what to do about it (``remedy``, where it is not ok)."""

    name: str
    status: Status
    message: str
    found: float | None = None
    bound: float | None = None
    remedy: str = ""


def check_run(
    scenario: Scenario,
    columns: Columns,
    window: Window,
    planned_s: Sequence[float] | None,
    stopped_s: float | None = None,
    lost_workers: int = 0,
    *,
    was_killed: bool = False,
) -> tuple[Check, ...]:
    """Every check of a run.

    Args:
        planned_s: when each arrival of an open loop was due, by its index; None for a closed loop, which draws none.
        stopped_s: when the run was stopped before its end.
        lost_workers: processes of the generator that were gone before the end.
        was_killed: it had no time to write what was in flight.
    """
    return (
        check_lag(scenario, columns),
        check_arrivals(columns, planned_s, stopped_s, lost_workers),
        check_times(scenario, columns),
        check_littles_law(scenario, columns, window, planned_s, None if was_killed else stopped_s),
        check_steady_state(scenario, columns, window),
        check_tokens(scenario, columns),
        check_repeats(columns),
    )


def check_lag(scenario: Scenario, columns: Columns) -> Check:
    """Whether the generator sent in time: p99 of sent - scheduled over all measured requests, failed ones too."""
    lags = np.sort((columns.sent_s - columns.scheduled_s)[columns.measured]) * 1e3
    if not len(lags):
        return Check("generator_lag", "unchecked", "no request was due after the warm-up")
    lag = float(lags[quantile_rank(len(lags), LAG_LEVEL) - 1])
    message = f"p99 of sent - scheduled is {lag:.3g} ms, the bound is {scenario.max_lag_ms:g} ms"
    if lag <= scenario.max_lag_ms:
        return Check("generator_lag", "ok", message, lag, scenario.max_lag_ms)
    remedy = "the generator was too slow: give it a core of its own, more workers, or a lower rate"
    return Check("generator_lag", "void", message, lag, scenario.max_lag_ms, remedy)


def check_arrivals(
    columns: Columns, planned_s: Sequence[float] | None, stopped_s: float | None = None, lost_workers: int = 0
) -> Check:
    """Whether every planned arrival left exactly one sample, due when it was planned.

    A closed loop plans no arrivals, so what its ``lost_workers`` would have asked is missed by nobody else.
    """
    counts = np.unique(columns.index, return_counts=True)[1]
    twice = int((counts > 1).sum())
    if lost_workers:
        message = f"{lost_workers} of the generator's workers were lost, and what they had still to ask was not asked"
        return Check("arrivals", "void", message, float(lost_workers), 0.0, _LOST)
    if planned_s is None:
        return _arrivals(twice, 0, 0, f"{len(columns)} requests of a closed loop, each once")
    due = np.asarray(planned_s, np.float64)
    known = (columns.index >= 0) & (columns.index < len(due))
    wrong = int((~known).sum() + (np.abs(due[columns.index[known]] - columns.scheduled_s[known]) > _MOMENT_S).sum())
    lost = int((_owed(due, stopped_s) & ~_sampled(due, columns)).sum())
    return _arrivals(twice, lost, wrong, f"{len(columns)} of {len(due)} planned arrivals, each once")


def _owed(due: NDArray[np.float64], stopped_s: float | None) -> NDArray[np.bool_]:
    """Which arrivals must have been sent: of a run that was stopped, not those that were due just then."""
    return np.ones(len(due), np.bool_) if stopped_s is None else due < stopped_s - _LAST_S


def _sampled(due: NDArray[np.float64], columns: Columns) -> NDArray[np.bool_]:
    """Which arrivals left a sample."""
    found = np.zeros(len(due), np.bool_)
    found[columns.index[(columns.index >= 0) & (columns.index < len(due))]] = True
    return found


def _arrivals(twice: int, lost: int, wrong: int, fine: str) -> Check:
    amiss = twice + lost + wrong
    if not amiss:
        return Check("arrivals", "ok", fine, 0.0, 0.0)
    message = f"{lost} planned arrivals left no sample, {twice} left several, {wrong} are not as planned"
    return Check("arrivals", "void", message, float(amiss), 0.0, _LOST)


_LOST = "a worker died or two runs were written into one folder: run it again"


def check_times(scenario: Scenario, columns: Columns) -> Check:
    """Whether each request's times are numbers, in order, and no longer apart than its time-outs allow."""
    sent, end = columns.sent_s, columns.end_s
    gaps, owners = columns.gaps_s
    limits = scenario.timeouts
    fine = np.isfinite(columns.scheduled_s) & (sent >= columns.scheduled_s - _MOMENT_S) & (end >= sent)
    fine &= end - sent <= limits.connect + limits.total + _UNWIND_S
    fine[owners[~(gaps >= 0)]] = False
    has = columns.chunks > 0
    first = columns.chunk_s[columns.starts[has]]
    last = columns.chunk_s[columns.starts[has] + columns.chunks[has] - 1]
    fine[has] &= (first >= sent[has]) & (last <= end[has])
    broken = int((~fine).sum())
    if not broken:
        return Check("times", "ok", "all times are in order", 0.0, 0.0)
    message = f"{broken} requests have times out of order, or longer than their time-outs"
    return Check("times", "void", message, float(broken), 0.0, "the clock jumped: run it again")


def check_littles_law(
    scenario: Scenario,
    columns: Columns,
    window: Window,
    planned_s: Sequence[float] | None,
    stopped_s: float | None = None,
) -> Check:
    """Little's law over the window: mean in flight = arrival rate x mean time in the system, both inside of it.

    In this form (Little, *Little's law as viewed on its 50th anniversary*, Operations Research 59, 2011, theorem
    LL.2) it holds for any run, steady or not, so a difference is a fault of the bookkeeping. The left side sweeps
    over the samples' events. Arrivals on the right come from the plan, so that samples that were lost or written
    twice show; what was due just before ``stopped_s`` need not have been sent. A closed loop has no plan; it can never
    have more requests in flight than users.
    """
    if window.length_s <= 0 or not columns.measured.any():
        return Check("littles_law", "unchecked", "there is no measured window")
    level, most = in_flight(window, columns)
    if isinstance(scenario.arrivals, Closed) and most > scenario.arrivals.users:
        message = f"{most} requests were in flight at once, of {scenario.arrivals.users} users"
        return Check("littles_law", "void", message, float(most), float(scenario.arrivals.users), _RUN_AGAIN)
    inside = window.overlap_s(columns.sent_s, columns.end_s)
    present = inside > 0
    carried = int((present & (columns.scheduled_s < window.start_s)).sum())
    if planned_s is None:
        came = int(present.sum()) - carried
    else:
        due = np.asarray(planned_s, np.float64)
        came = int((window.holds(due) & (_owed(due, stopped_s) | _sampled(due, columns))).sum())
    mean = float(inside[present].mean()) if present.any() else 0.0
    product = (came + carried) * mean / window.length_s
    difference = abs(level - product)
    found = difference / product if product else 0.0
    message = f"{level:.3g} in flight, arrival rate x time in the system is {product:.3g}"
    one = mean / window.length_s  # a request at the very edge
    if difference <= max(LAW_TOLERANCE * product, 1.5 * one):
        return Check("littles_law", "ok", message, found, LAW_TOLERANCE)
    return Check("littles_law", "void", message, found, LAW_TOLERANCE, _RUN_AGAIN)


_RUN_AGAIN = "samples are lost, doubled or wrongly timed: run it again"


def check_steady_state(scenario: Scenario, columns: Columns, window: Window) -> Check:
    """Whether arrivals x their whole time in the system agree with what was in flight, as in a steady run they do."""
    due = columns.measured & window.holds(columns.scheduled_s)
    if isinstance(scenario.arrivals, Ramp):
        return Check("steady_state", "unchecked", "a ramp is not steady by design")
    if window.length_s <= 0 or not due.any():
        return Check("steady_state", "unchecked", "there is no measured window")
    level, _ = in_flight(window, columns)
    product = float((columns.end_s - columns.sent_s)[due].sum()) / window.length_s
    found = abs(level - product) / product if product else 0.0
    message = f"{level:.3g} in flight, arrivals x their whole time in the system is {product:.3g}"
    if found <= STEADY_TOLERANCE:
        return Check("steady_state", "ok", message, found, STEADY_TOLERANCE)
    remedy = "rates are those of this run only: warm up and measure longer, or lower the rate if latencies kept growing"
    return Check("steady_state", "warning", message, found, STEADY_TOLERANCE, remedy)


def check_tokens(scenario: Scenario, columns: Columns) -> Check:
    """Whether `usage` and the tokenizer count the same output: within 2%, and one end token per answer that stopped.

    Servers differ in whether they count the token that ends an answer, which its text does not show. A wrong count
    makes TPOT wrong, so it voids a run with an SLO on TPOT.
    """
    both = columns.measured & columns.is_ok & np.isfinite(columns.output_tokens) & np.isfinite(columns.counted_tokens)
    if not both.any():
        return Check("tokens", "unchecked", "no answer has both a `usage` and a count by the tokenizer")
    said, counted = float(columns.output_tokens[both].sum()), float(columns.counted_tokens[both].sum())
    excess = said - counted
    unexplained = min(excess, 0.0) + max(excess - float(columns.stopped[both].sum()), 0.0)
    found = abs(unexplained) / counted if counted else float(bool(unexplained))
    message = f"`usage` says {said:.0f} output tokens, the tokenizer counts {counted:.0f}"
    if found <= TOKEN_TOLERANCE:
        return Check("tokens", "ok", message, found, TOKEN_TOLERANCE)
    status: Status = "void" if any(slo.metric == "tpot" for slo in scenario.slos) else "warning"
    remedy = "give the tokenizer of the model that answers; if it is that one, the server counts wrongly"
    return Check("tokens", status, message, found, TOKEN_TOLERANCE, remedy)


def check_repeats(columns: Columns) -> Check:
    """Whether prompts came again: a server that keeps prefixes answers those without reading them.

    Then the latencies are those of its cache, which users with questions of their own never see.
    """
    measured = columns.measured
    if not measured.any():
        return Check("repeats", "unchecked", "no request was due after the warm-up")
    found = float(columns.repeats[measured].mean())
    message = f"{columns.repeats[measured].sum()} of {measured.sum()} requests ask what was asked before"
    if found <= REPEATS_TOLERANCE:
        return Check("repeats", "ok", message, found, REPEATS_TOLERANCE)
    ttft_ms = (columns.first_s - columns.sent_s)[columns.is_ok] * 1e3
    again = columns.repeats[columns.is_ok]
    if np.isfinite(ttft_ms[again]).any() and np.isfinite(ttft_ms[~again]).any():
        once, then = (float(np.nanmedian(ttft_ms[rows])) for rows in (~again, again))
        message += f" (median TTFT {once:.3g} ms the first time, {then:.3g} ms again)"
    remedy = "a prefix cache answers what repeats: give as many different prompts as there are requests"
    return Check("repeats", "warning", message, found, REPEATS_TOLERANCE, remedy)


__all__ = ["LAW_TOLERANCE", "REPEATS_TOLERANCE", "STEADY_TOLERANCE", "TOKEN_TOLERANCE", "Check", "Status", "check_run"]
