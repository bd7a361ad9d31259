"""The limit of a profile's own work: its mean step and its typical prompt under the roofs of its machine."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from slipstream.profiling.diagnosis.case import EngineLook, WorkLimit
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.limit.work import Load, Work
from slipstream.profiling.timeline.model import Timeline


def work_limit(limit: Limit | None, timeline: Timeline, engine: Sequence[EngineLook]) -> WorkLimit | None:
    """None where nothing is known of machine and bundle, or no request told how long its prompt was."""
    prompts = [request.prompt_tokens for request in timeline.requests if request.prompt_tokens]
    if limit is None or not prompts:
        return None
    answers = [request.output_tokens or 0 for request in timeline.requests]
    streams = min(_streams(timeline, engine), limit.slots)
    work, roof = limit.work, limit.roof
    decode = work.decode(streams, round(fmean(prompts) + fmean(answers) / 2))
    # A step that verifies proposals computes every proposed position.
    decode = Load(decode.read_bytes, decode.operations * max(1, work.tokens_per_step))
    bandwidth, compute = roof.bandwidth(decode.read_bytes), roof.compute.get(work.arithmetic)
    if bandwidth is None or compute is None:
        return None
    return _with_prefill(WorkLimit(decode, None, streams, bandwidth.best, compute.best), work, timeline)


def _with_prefill(found: WorkLimit, work: Work, timeline: Timeline) -> WorkLimit:
    """``found`` with the prefill in the middle of all by its share of the limit.

    Prompts differ more in length than in that share, and a few long ones have most of the tokens: a limit of the mean
    prompt beside the median time says nothing.
    """
    shares: list[tuple[float, Load, float]] = []
    for request in timeline.requests:
        taken = request.timing.stages.get("prefill", 0.0) if request.timing else 0.0
        if request.timing and request.prompt_tokens and taken > 0:
            load = work.prefill(request.prompt_tokens, request.timing.cached_prompt_tokens or 0)
            shares.append((found.least_ms(load) / taken, load, taken))
    if not shares:
        return found
    _, load, taken = sorted(shares, key=lambda one: one[0])[(len(shares) - 1) // 2]
    return replace(found, prefill=load, prefill_ms=taken)


def _streams(timeline: Timeline, engine: Sequence[EngineLook]) -> int:
    """How many sequences a step advances on average: as the engine says, else as many as decode at once."""
    active = [look.active for look in engine if look.active >= 1]
    if active:
        return max(1, round(fmean(active)))
    decoding_ms = sum(timing.stages.get("decode", 0.0) for timing in timeline.timings)
    length_ms = (max(one.end_ns for one in timeline.requests) - timeline.requests[0].sent_ns) / 1e6
    return max(1, round(decoding_ms / length_ms)) if length_ms > 0 else 1


__all__ = ["work_limit"]
