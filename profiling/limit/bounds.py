"""Lower bounds of TPOT and TTFT: no step is faster than its reading, nor than its computing.

The roofline model (Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009): the longer of bytes / bandwidth and operations / compute. A step reads the weights
once for all sequences in it, so a bound of many streams is below as many bounds of one.
"""

from dataclasses import dataclass
from typing import Literal

from slipstream.profiling.limit.roof import Roof
from slipstream.profiling.limit.work import Arithmetic, Load, Work

Resource = Literal["memory bandwidth", "compute"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A time that nothing is below.

    Attributes:
        seconds: of a token (TPOT) or of a prompt (TTFT).
        by: what takes that long.
        load: of the step or the prompt.
        bytes_per_s: the bandwidth it was made with; ``operations_per_s`` likewise, None where not known.
    """

    seconds: float
    by: Resource
    load: Load
    bytes_per_s: float
    operations_per_s: float | None


def tpot_bound(work: Work, roof: Roof, streams: int = 1, context_tokens: int = 0) -> Bound | None:
    """Of each of ``streams`` sequences; None where the roof tells no bandwidth.

    A step that verifies proposals may give several tokens, and the bound is what holds where it accepts them all; what
    proposing costs is not counted.

    Raises:
        LimitUnknown: see `Work.decode`.
    """
    load = work.decode(streams, context_tokens)
    if work.tokens_per_step > 1:
        # Every proposed position is computed as well; that their KV entries are read once more is left out.
        load = Load(load.read_bytes, load.operations * work.tokens_per_step)
    return _bound(load, roof, work.arithmetic, work.tokens_per_step)


def ttft_bound(work: Work, roof: Roof, prompt_tokens: int, cached_tokens: int = 0) -> Bound | None:
    """Of a prompt alone, of which ``cached_tokens`` are in the cache; None where the roof tells no bandwidth.

    Raises:
        LimitUnknown: see `Work.prefill`.
    """
    return _bound(work.prefill(prompt_tokens, cached_tokens), roof, work.arithmetic, 1)


def _bound(load: Load, roof: Roof, arithmetic: Arithmetic, tokens: int) -> Bound | None:
    bandwidth, compute = roof.bandwidth(load.read_bytes), roof.compute.get(arithmetic)
    if bandwidth is None:
        return None
    reading_s = load.read_bytes / bandwidth.best
    computing_s = load.operations / compute.best if compute else 0.0
    by: Resource = "compute" if computing_s > reading_s else "memory bandwidth"
    rate = compute.best if compute else None
    return Bound(max(reading_s, computing_s) / tokens, by, load, bandwidth.best, rate)


__all__ = ["Bound", "Resource", "tpot_bound", "ttft_bound"]
