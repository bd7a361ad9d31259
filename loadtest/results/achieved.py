"""How far a run was from what its machine can do with its bundle, where both are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.results.columns import Booleans, Columns
from slipstream.loadtest.results.metrics import Metrics
from slipstream.loadtest.statistics.order import Floats, quantile_rank
from slipstream.profiling.limit.bounds import Bound, tpot_bound, ttft_bound
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.limit.limits import quantity


@dataclass(frozen=True)
class Achieved:
    """The median of a latency beside its lower bound, for a request that has the machine for itself.

    The bound of a request grows with its prompt, so where each is above its own, the median is above the bound of the
    median prompt.

    Attributes:
        metric: ``TPOT`` or ``TTFT``, since sent.
        share: of the measured time that cannot be avoided. Above 1 only where the prefix cache held what is counted.
        resource: what binds, ``rate`` of it per second, known by ``source``.
        prompt_tokens: the median.
        together_ms: the bound in a step of ``streams``, as many as were in flight by mean; None: that is one.
    """

    metric: str
    measured_ms: float
    bound_ms: float
    share: float
    resource: str
    rate: float
    source: str
    prompt_tokens: int
    streams: int = 1
    together_ms: float | None = None

    @property
    def sentence(self) -> str:
        unit = "B/s" if self.resource == "memory bandwidth" else "OP/s"
        roof = f"({self.resource} {quantity(self.rate, unit)} {self.source})"
        times = f"{self.metric} p50 is {_times(1 / self.share)} times"
        if self.metric == "TTFT":
            prompt = f"a prompt of {self.prompt_tokens:,} tokens, none of them cached,"
            return f"{times} the {_ms(self.bound_ms)} that {prompt} takes at least {roof}"
        alone = f"{times} its lower bound of {_ms(self.bound_ms)} {roof}"
        if self.together_ms is None:
            return alone
        step = f"a step of {self.streams}, as many as were in flight by mean,"
        return f"{alone}; {step} takes at least {_ms(self.together_ms)}"


def achieved(limit: Limit, columns: Columns, metrics: Metrics) -> tuple[Achieved, ...]:
    """TPOT and TTFT of the measured requests that succeeded and say how long their prompt was.

    Whether the prefix cache held a part of a prompt is not known, so TTFT is held to prompts that are read in full.
    """
    known = columns.measured & columns.is_ok & (columns.prompt_tokens >= 1)
    in_flight = metrics.rates.in_flight if metrics.rates is not None else 0.0
    streams = max(1, min(limit.slots, int(in_flight)))
    return (*_tpot(limit, columns, known, streams), *_ttft(limit, columns, known))


def _tpot(limit: Limit, columns: Columns, known: Booleans, streams: int) -> Sequence[Achieved]:
    found = _medians(columns.tpot_s, columns.prompt_tokens, known)
    if found is None:
        return ()
    measured_s, tokens = found
    bound = tpot_bound(limit.work, limit.roof, 1, tokens)
    together = tpot_bound(limit.work, limit.roof, streams, tokens) if streams > 1 else None
    return _beside("TPOT", limit, measured_s, bound, tokens, streams, together)


def _ttft(limit: Limit, columns: Columns, known: Booleans) -> Sequence[Achieved]:
    found = _medians(columns.latency_s("ttft", "sent"), columns.prompt_tokens, known)
    if found is None:
        return ()
    measured_s, tokens = found
    return _beside("TTFT", limit, measured_s, ttft_bound(limit.work, limit.roof, tokens), tokens)


def _beside(
    metric: str,
    limit: Limit,
    measured_s: float,
    bound: Bound | None,
    tokens: int,
    streams: int = 1,
    together: Bound | None = None,
) -> Sequence[Achieved]:
    if bound is None or measured_s <= 0:
        return ()
    rate = bound.operations_per_s if bound.by == "compute" and bound.operations_per_s else bound.bytes_per_s
    return (
        Achieved(
            metric=metric,
            measured_ms=1e3 * measured_s,
            bound_ms=1e3 * bound.seconds,
            share=bound.seconds / measured_s,
            resource=bound.by,
            rate=rate,
            source=limit.roof.source,
            prompt_tokens=tokens,
            streams=streams,
            together_ms=1e3 * together.seconds if together else None,
        ),
    )


def _medians(seconds: Floats, tokens: Floats, known: Booleans) -> tuple[float, int] | None:
    """Of the latency and of the prompt, over the requests that have both."""
    both = known & np.isfinite(seconds)
    if not both.any():
        return None
    rank = quantile_rank(int(both.sum()), 0.5) - 1
    return float(np.sort(seconds[both])[rank]), int(np.sort(tokens[both])[rank])


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _ms(value: float) -> str:
    return f"{value:,.3g} ms" if value < 1000 else f"{value:,.0f} ms"


__all__ = ["Achieved", "achieved"]
