"""Whole profiles, concluded from folders that are written here as a run would have."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.loadtest.folder import Moments
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import draw
from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.run.folder import ProfileFolder
from slipstream.profiling.telemetry.records import LOAD_GENERATOR, Process, Telemetry
from tests.loadtest.report.served import RUN
from tests.profiling.made import timing

START_S, AT = 5_000.0, 1_700_000_000.0
HOSTILE = "<script>document.title='taken'</script>" + "x" * 120


def scenario(folder: Path) -> Scenario:
    (folder / "prompts.jsonl").write_text('{"prompt": "where?"}\n')
    return Scenario.model_validate(
        {
            "name": "default",
            "arrivals": {"kind": "poisson", "rate": 3.0},
            "prompts": {"kind": "jsonl", "path": str(folder / "prompts.jsonl")},
            "warmup": 5, "duration": 60, "stage_times": "spans",
        }
    )  # fmt: skip


def samples(count: int = 120, seed: int = 3, stage: str = "retrieve") -> list[Sample]:
    """Three a second; the search of one in ten takes half a second, and one in twenty waits for its turn."""
    rng = np.random.default_rng(seed)
    return [_sample(rng, number, stage) for number in range(count)]


def _sample(rng: np.random.Generator, number: int, stage: str) -> Sample:
    sent = number / 3
    told = timing(
        {
            "queue": float(rng.exponential(3)) + (400.0 if number % 20 == 7 else 0.0),
            "embed": float(rng.normal(9, 0.5)),
            stage: float(rng.normal(6, 0.5)) + (500.0 if number % 10 == 3 else 0.0),
            "prompt": 1.2,
            "prefill": float(rng.normal(180, 25)),
        },
        steps=rng.lognormal(np.log(14), 0.25, int(rng.integers(20, 90))).tolist(),
        received_unix_s=AT + sent + 0.0006,
    )
    assert told.ttft_ms is not None
    assert told.end_to_end_ms is not None
    first, end = sent + told.ttft_ms / 1e3 + 0.0009, sent + told.end_to_end_ms / 1e3 + 0.0012
    said = asdict(told) | {
        "spans": [[span.stage, span.start_ms, span.length_ms] for span in told.spans], "stages": dict(told.stages)
    }  # fmt: skip
    return Sample(
        index=number, scheduled_s=sent, sent_s=sent, end_s=end, outcome="ok", measured=sent >= 5, chunk_s=[first, end],
        status=200, prompt_tokens=740, output_tokens=told.decode_steps, finish_reason="stop", timing=said,
        stages_s={name: ms / 1e3 for name, ms in told.stages.items()},
    )  # fmt: skip


def written(root: Path, found: Sequence[Sample] | None = None, **moments: Any) -> ProfileFolder:
    """The folder of a run, before anything is concluded from it."""
    root.mkdir(parents=True, exist_ok=True)
    folder = ProfileFolder(root)
    draw(scenario(root)).save(folder.plan)
    folder.write_run(RUN, None, Moments(AT, START_S, **({"ended_s": 41.0} | moments)))
    folder.samples.write_text("".join(sample.to_line() + "\n" for sample in (samples() if found is None else found)))
    with folder.telemetry.open("w") as lines:
        for look in range(80):
            processes = (
                Process("engine", 7, 1.5 + look % 5 / 20, 2**30, 9),
                Process("facade", 8, 0.1, 2**27, 12),
                Process(LOAD_GENERATOR, 9, 0.05, 2**27, 3),
            )
            seen = Telemetry(
                START_S + look / 2, 0.9, 0.97, (6 * 2**30) + look * 2**20, 24 * 2**30, 4e3, 0.05, processes
            )
            lines.write(json.dumps(asdict(seen)) + "\n")
    with folder.engine.open("w") as lines:
        for look in range(80):
            gauges = EngineLook(START_S + look / 2, 2 + look % 3, look % 2, 0.2, 70 * look, 160 * look)
            lines.write(json.dumps(asdict(gauges)) + "\n")
    return folder
