"""Points as files: a folder of a search whose runs were simulated."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.loadtest.capacity.findings import Point, judge_point
from slipstream.loadtest.capacity.points import Sizing
from slipstream.loadtest.capacity.record import Begun, CapacityFolder, Conditions
from slipstream.loadtest.folder import Folder, Moments
from slipstream.loadtest.report.records import Run
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.schedule.planned import Planned
from tests.loadtest.simulated import request, scenario

PLANNED = 208


def conditions(**changes: object) -> Conditions:
    given = Conditions(
        scenario=scenario(), url="http://127.0.0.1:8080", tokenizer=None, processes=1, precision=0.1,
        size=Sizing(PLANNED), max_time_s=1800, command="slipstream loadtest --find-capacity",
        started_at="2026-11-22T00:31:07+00:00",
    )  # fmt: skip
    return replace(given, **changes)  # type: ignore[arg-type]


def requests(misses: int = 0, number: int = PLANNED, rate: float = 10.0, *, together: bool = False) -> list[Sample]:
    """A warm-up of five seconds and ``number`` measured requests, of which ``misses`` come late.

    They are spread evenly, or ``together`` at the beginning.
    """
    warm = int(5 * rate)
    late = set(range(misses)) if together else set(np.linspace(0, number - 1, misses).astype(int).tolist())
    return [request(index, index / rate, ttft=0.9 if index - warm in late else 0.2) for index in range(warm + number)]


def _until(samples: Sequence[Sample], stopped_s: float, *, was_killed: bool) -> Iterator[Sample]:
    """What a run leaves that is ended in the middle; one that is killed leaves nothing of what is in flight."""
    for one in samples:
        if one.end_s <= stopped_s:
            yield one
        elif one.sent_s < stopped_s and not was_killed:
            chunks = [moment for moment in one.chunk_s if moment < stopped_s]
            yield replace(one, outcome="cut_off", end_s=stopped_s, chunk_s=chunks)


def judged(
    root: Path,
    samples: Sequence[Sample],
    begun: Begun | None = None,
    *,
    load: Scenario | None = None,
    stopped_s: float | None = None,
    was_killed: bool = False,
) -> Point:
    """The point that came to ``samples``; those of a run that was stopped are what ended before."""
    load, begun = load or scenario(), begun or Begun(1, 10.0, "point-01")
    folder = Folder(root / begun.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    arrivals = tuple(Planned(one.index, one.scheduled_s, one.prompt, {}, one.measured) for one in samples)
    Plan(load, arrivals).save(folder.plan)
    ended = samples if stopped_s is None else list(_until(samples, stopped_s, was_killed=was_killed))
    folder.samples.write_text("".join(one.to_line() + "\n" for one in ended), encoding="utf-8")
    last = stopped_s or max(one.end_s for one in samples)
    moments = Moments(time.time(), 0.0, None if was_killed else last, was_stopped=stopped_s is not None)
    folder.write_run(Run("http://127.0.0.1:8080", "slipstream loadtest --find-capacity"), None, moments)
    return judge_point(CapacityFolder(root), begun)
