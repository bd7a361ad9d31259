"""A server with slots, simulated: what waits is served in turn."""

import heapq

import numpy as np

from slipstream.loadtest.sample import Sample
from tests.loadtest.simulated import request

SERVICE_S = 1.0


def served(load: float, slots: int, seed: int, *, requests: int = 240, warmup_s: float = 5.0) -> list[Sample]:
    """Poisson arrivals at ``load`` times the capacity, which is ``slots`` per second: answers take 1 s by mean.

    TTFT is the wait and 0.1 s.
    """
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(SERVICE_S / slots / load, requests + int(2 * load * slots * warmup_s)))
    first = int(np.searchsorted(due, warmup_s))
    due = due[: first + requests]
    free = [0.0] * slots
    samples = []
    for index, moment in enumerate(due.tolist()):
        begin = max(moment, heapq.heappop(free))
        answer_s = 0.1 + float(rng.gamma(4, (SERVICE_S - 0.1) / 4))
        heapq.heappush(free, begin + answer_s)
        ttft = begin - moment + 0.1
        samples.append(request(index, moment, lag=0.0, ttft=ttft, gaps=[answer_s - 0.1], measured=moment >= warmup_s))
    return samples
