"""Runs whose truth is known, as samples: what a generator would have written of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from slipstream.loadtest.sample import Outcome, Sample
from slipstream.loadtest.scenario import Scenario

TTFT_BOUND = {"metric": "ttft", "bound_ms": 500}


def scenario(**changes: Any) -> Scenario:
    """60 measured seconds of 10 requests per second after 5 of warm-up; one SLO, p95 TTFT within 500 ms."""
    given = {"arrivals": {"kind": "constant", "rate": 10}, "slos": [TTFT_BOUND], "warmup": 5, "duration": 60}
    return Scenario.model_validate(given | changes)


def request(
    index: int = 0,
    due: float = 10.0,
    *,
    lag: float = 0.001,
    ttft: float = 0.2,
    gaps: Sequence[float] = (0.05,) * 9,
    outcome: Outcome = "ok",
    **changes: Any,
) -> Sample:
    """One request: its first chunk after ``ttft``, one token per chunk, its end with the last chunk."""
    sent = due + lag
    chunks = (sent + ttft + np.cumsum([0.0, *gaps])).tolist()
    given = {
        "chunk_s": chunks,
        "end_s": chunks[-1],
        "measured": due >= 5,
        "status": 200,
        "prompt_tokens": 100,
        "output_tokens": len(chunks),
        "counted_tokens": len(chunks),
        "finish_reason": "length",
    }
    return Sample(index=index, scheduled_s=due, sent_s=sent, outcome=outcome, **(given | changes))


def failed(index: int = 0, due: float = 10.0, outcome: Outcome = "server_error", after: float = 0.1) -> Sample:
    """A request that brought nothing."""
    return Sample(index, due, due + 0.001, due + 0.001 + after, outcome, measured=due >= 5)


def steady(ttfts: Sequence[float], rate: float = 10.0, **changes: Any) -> list[Sample]:
    """Requests at ``rate`` from the start of the run on, one for each TTFT."""
    return [request(index, index / rate, ttft=float(ttft), **changes) for index, ttft in enumerate(ttfts)]


def planned(samples: Sequence[Sample]) -> list[float]:
    """When each of them was due, as a plan says."""
    return [sample.scheduled_s for sample in sorted(samples, key=lambda sample: sample.index)]
