"""Whether a share is proven: exact one-sided binomial tests of "at least the share q of the requests is within".

With n requests and t misses, and alpha = 1 - confidence:

* proven when ``P(X <= t) <= alpha`` and refuted when ``P(X >= t) <= alpha``, X being binomial with n and miss rate 1
  - q.

A claim that is false is proven in at most the share alpha of all runs, one that is true is refuted in at most alpha:
these are the tests behind the interval of Clopper and Pearson (*The use of confidence or fiducial limits*, Biometrika
26, 1934). Both are exact for requests that miss independently of each other and for a number of requests that was
fixed before the run; who looks again and again and stops at the first PASS errs more often. Tails are incomplete beta
functions (Abramowitz and Stegun, 26.5.24), which also have a value between two counts.
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import isclose
from typing import Literal

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]

MOST_REQUESTS = 10_000_000
"""What takes more requests than this counts as what cannot be settled."""

_ROUNDING = 1 + 1e-12  # of tails: one that is exactly alpha decides


def complement(share: float) -> float:
    """``1 - share`` without the last digits, which would decide where a tail is exactly alpha."""
    return round(1 - share, 12)


def at_most(misses: float, requests: float, rate: float) -> float:
    """``P(X <= misses)`` of a binomial X with ``requests`` and the miss rate ``rate``."""
    from scipy.special import betainc

    return 1.0 if misses >= requests else float(betainc(requests - misses, misses + 1, 1 - rate))


def at_least(misses: float, requests: float, rate: float) -> float:
    """``P(X >= misses)`` of a binomial X with ``requests`` and the miss rate ``rate``."""
    from scipy.special import betainc

    return 1.0 if misses <= 0 else float(betainc(misses, requests - misses + 1, rate))


def decide(misses: float, requests: float, quantile: float, confidence: float, worth: float = 1.0) -> Verdict:
    """Whether it is proven that the share ``quantile`` of all requests is within its bound.

    Args:
        misses: 0..``requests``; need not be whole.
        requests: how many were counted; 0 decides nothing.
        quantile: the claimed share, between 0 and 1.
        confidence: 1 - alpha of each of the two tests.
        worth: each request says as much as this share of an independent one, above 0 and at most 1.
    """
    rate, alpha = complement(quantile), complement(confidence) * _ROUNDING
    if requests <= 0:
        return "INCONCLUSIVE"
    proven = at_most(misses * worth, requests * worth, rate) <= alpha
    refuted = at_least(misses * worth, requests * worth, rate) <= alpha
    if proven and refuted:  # only below a confidence of about a half: say what was seen
        return "PASS" if misses <= rate * requests else "FAIL"
    return "PASS" if proven else "FAIL" if refuted else "INCONCLUSIVE"


def requests_to_prove(misses: int, quantile: float, confidence: float, worth: float = 1.0) -> int | None:
    """The least number of requests that proves the claim with ``misses`` among them; None above `MOST_REQUESTS`.

    At 95% and a confidence of 95%: 59 without a miss, 93 with one, 208 with five. ``worth`` as in `decide`.
    """
    rate, alpha = complement(quantile), complement(confidence) * _ROUNDING
    candidates = range(misses + 1, MOST_REQUESTS + 1)
    found = bisect_left(candidates, True, key=lambda count: at_most(misses * worth, count * worth, rate) <= alpha)
    return candidates[found] if found < len(candidates) else None


@dataclass(frozen=True)
class Outlook:
    """What would settle an open verdict. Each is a number of requests on top of those that were counted.

    Attributes:
        without_misses: the least that prove the claim if none of them misses; None above `MOST_REQUESTS`.
        at_this_rate: how many are expected to settle it where misses go on as they came; None: they cannot settle it,
            because the observed miss rate is the claimed one or too near to it.
        towards: what they would settle it to.
    """

    without_misses: int | None
    at_this_rate: int | None
    towards: Verdict


def outlook(misses: int, requests: int, quantile: float, confidence: float, worth: float = 1.0) -> Outlook:
    """How many more requests would settle what `decide` left open, if they are worth as much as those before."""
    least = requests_to_prove(misses, quantile, confidence, worth)
    without = None if least is None else max(least - requests, 0)
    if not misses:
        return Outlook(without, without, "PASS")
    rate, alpha = complement(quantile), complement(confidence) * _ROUNDING
    seen = misses / requests
    if isclose(seen, rate):
        return Outlook(without, None, "INCONCLUSIVE")
    tail = at_most if seen < rate else at_least
    candidates = range(requests, MOST_REQUESTS + 1)
    found = bisect_left(candidates, True, key=lambda count: tail(seen * count * worth, count * worth, rate) <= alpha)
    if found == len(candidates):
        return Outlook(without, None, "INCONCLUSIVE")
    return Outlook(without, candidates[found] - requests, "PASS" if seen < rate else "FAIL")


def share_interval(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Both ends of the interval of a share by Clopper and Pearson, which covers it at least as often as it says."""
    from scipy.special import betaincinv

    tail = complement(confidence) / 2
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1 - tail)) if hits < trials else 1.0
    return low, high
