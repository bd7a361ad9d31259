"""A server as it might be, simulated: TTFT grows with the prompt, a queue forms now and then, some requests fail."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from slipstream.loadtest.report.records import Run
from slipstream.loadtest.results.verdict import Result, judge
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Gpu, Process, Telemetry

RUN = Run(
    url="http://127.0.0.1:8080",
    command="slipstream loadtest default --url http://127.0.0.1:8080",
    started_at="2026-11-22T00:31:07+00:00",
    version="0.1.0",
    plan_digest="sha256:6a1f0c55",
    bundle_digest="sha256:7170ed33455b4392",
    index_digest="sha256:91c2aa07",
    server={"release": "production-v0.1-smollm2-135m-gptq-p42", "engine": "openvino 2026.4"},
    host={"CPU": "AMD EPYC 9B14, 2 cores", "memory": "24 GiB", "GPU": "none"},
)


def scenario(**changes: Any) -> Scenario:
    """3 Poisson requests per second for 100 s after 10 of warm-up, held to TTFT and TPOT."""
    given = {
        "name": "default",
        "arrivals": {"kind": "poisson", "rate": 3.0},
        "slos": [{"metric": "ttft", "bound_ms": 500}, {"metric": "tpot", "bound_ms": 60}],
        "warmup": 10,
        "duration": 100,
    }
    return Scenario.model_validate(given | changes)


def served(
    load: Scenario, rate: float = 3.0, *, slow: float = 0.03, failing: float = 0.0, chunks: int = 40, seed: int = 7
) -> list[Sample]:
    """What came of ``load``: the share ``slow`` waits much longer, the share ``failing`` fails."""
    rng = np.random.default_rng(seed)
    length = load.warmup + (load.duration or 60.0)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * length * 1.5) + 10))
    due = due[due < length]
    return [_one(rng, index, moment, load, slow, failing, chunks) for index, moment in enumerate(due.tolist())]


def _one(
    rng: np.random.Generator, index: int, due: float, load: Scenario, slow: float, failing: float, chunks: int
) -> Sample:
    sent = due + float(rng.exponential(0.0004))
    tokens = int(rng.integers(150, 1_400))
    queue = float(rng.exponential(0.02)) + (float(rng.uniform(0.3, 1.2)) if rng.random() < slow else 0.0)
    retrieval, prefill = float(rng.normal(0.03, 0.003)), tokens / 6_000 * float(rng.lognormal(0, 0.15))
    first = sent + queue + retrieval + prefill
    came = first + np.cumsum(np.concatenate([[0.0], rng.lognormal(np.log(0.02), 0.3, chunks - 1)]))
    sample = Sample(
        index=index, scheduled_s=due, sent_s=sent, end_s=float(came[-1]), outcome="ok", measured=due >= load.warmup,
        chunk_s=came.tolist(), status=200, prompt_tokens=tokens, output_tokens=chunks, counted_tokens=chunks,
        characters=4 * chunks, finish_reason="length", prompt=f"question-{index % 40}",
        stages_s={"queue": queue, "retrieval": retrieval, "prefill": prefill, "decode": float(came[-1]) - first},
    )  # fmt: skip
    if rng.random() >= failing:
        return sample
    refused = rng.random() < 0.7
    return replace(
        sample, outcome="rate_limited" if refused else "stalled", chunk_s=[], end_s=sent + (0.004 if refused else 30.0),
        status=429 if refused else 200, retry_after_s=2.0 if refused else None, output_tokens=None, stages_s={},
        detail="the queue is full" if refused else "no byte for 30 s",
    )  # fmt: skip


def judged(load: Scenario, samples: list[Sample]) -> Result:
    return judge(load, samples, planned_s=[sample.scheduled_s for sample in samples])


ROLES = ("facade", "triton", "embedder", "retriever", "generator", "engine")


def watched(length_s: float = 110, gpus: int = 0, seed: int = 3) -> list[Telemetry]:
    """One look per second at a machine with an appliance; the first of the GPUs is cut into two."""
    rng = np.random.default_rng(seed)

    def card(index: int) -> Gpu:
        return Gpu(
            index,
            f"GPU-{index}",
            busy_share=float(rng.uniform(0.6, 0.95)) if index else None,
            memory_bytes=40 * 2**30,
            power_w=float(rng.normal(480, 20)),
            pcie_rx_bytes_per_s=float(rng.uniform(1e9, 9e9)),
            pcie_tx_bytes_per_s=float(rng.uniform(1e8, 2e8)),
            slowed_by=("power cap",) if index and rng.uniform() < 0.3 else (),
        )

    def cards() -> Iterator[Gpu]:
        for index in range(gpus):
            yield card(index)
            for part in range(0 if index else 2):
                yield Gpu(index, f"MIG-{part}a1b2c3-4d5e", "1g.10gb", memory_bytes=(part + 3) * 2**30)

    return [
        Telemetry(
            t_s=float(second),
            cpu_share=float(np.clip(rng.normal(0.8, 0.08), 0, 1)),
            busiest_core_share=float(rng.uniform(0.9, 1.0)),
            memory_bytes=int(3.1 * 2**30 + second * 2**18),
            context_switches_per_s=float(rng.uniform(2_000, 9_000)),
            generator_cpu_share=float(rng.uniform(0.04, 0.12)),
            processes=(
                Process(LOAD_GENERATOR, 9, 0.1, 2**27, 3),
                *(Process(role, 10 + at, float(rng.uniform(0, 1)), 2**28, 4) for at, role in enumerate(ROLES)),
            ),
            gpus=tuple(cards()),
        )
        for second in range(int(length_s))
    ]
