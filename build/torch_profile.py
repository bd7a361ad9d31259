"""PyTorch's profiler around the stages of a build that run torch: a Chrome trace of each, and its top operators.

A stage says how far it is after every piece of its work; those calls are the profiler's steps. Of a stage with many
steps a few are recorded once it is warm, so that a trace of an hour's distillation opens as fast as one of a minute's.
"""

import json
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

import structlog

from slipstream import EnvironmentFault
from slipstream.build.stages import Outputs, Stage
from slipstream.engines.protocols import Progress

if TYPE_CHECKING:
    from torch.profiler import profile

log = structlog.get_logger(__name__)

_TOP = 25
_SILENT = "6"
"""Above every level at which the library under the profiler writes to stderr; it looks once, when torch is imported."""


@dataclass(frozen=True)
class Schedule:
    """Steps to let pass, to warm up in, and to record."""

    wait: int
    warmup: int
    active: int

    @property
    def first(self) -> int:
        return self.wait + self.warmup


_LAYERS = Schedule(wait=2, warmup=1, active=1)
"""What is said before the first layer is rounded, then that layer: the others have the same matrices, and rounding
column by column makes so many calls that two of them take minutes to sort."""
SCHEDULES: Mapping[str, Schedule | None] = {
    "merge": None,
    "quantize": _LAYERS,
    "distil": Schedule(wait=2, warmup=1, active=5),
    "draft": _LAYERS,
}
"""The stages that compute with torch, and what is recorded of each; None: all of it.

Those that export (*reference*, *embedder*) are left alone: `torch.export` traces shapes, and under a profiler that
looks at them it takes a dynamic one for a static one, and fails.
"""


class ProfileUnwritable(EnvironmentFault):
    """The folder of a profile cannot be made."""


@dataclass(frozen=True)
class Operator:
    """All calls of one operator. ``self_ms`` is without the operators it calls; on a GPU, both are of its kernels."""

    name: str
    calls: int
    self_ms: float
    total_ms: float
    share: float
    gflop: float


@dataclass(frozen=True)
class StageProfile:
    """What was recorded of a stage; ``trace`` is None when nothing was, and ``note`` says why.

    ``steps`` are those that ended while it was recorded; None for a stage that is recorded whole.
    """

    stage: str
    steps: int | None
    trace: str | None
    operators: tuple[Operator, ...]
    note: str = ""


class BuildProfile:
    """Profiles of the stages of one build, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: list[StageProfile] = []

    @classmethod
    def below(cls, reports: Path, recipe: str) -> "BuildProfile":
        """In a new folder ``build-<time>-<recipe>``.

        Raises:
            ProfileUnwritable: it cannot be made.
        """
        os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
        stamp, name = time.strftime("%Y%m%dT%H%M%S", time.gmtime()), re.sub(r"[^\w.-]+", "-", recipe)
        try:
            for number in range(1, 1000):
                folder = reports / f"build-{stamp}-{name}{f'-{number}' if number > 1 else ''}"
                if not folder.exists():
                    break
            folder.mkdir(parents=True)
            made = cls(folder)
            made._keep()
        except OSError as error:
            raise ProfileUnwritable(
                f"{reports} cannot be written to: {error.strerror}", "set SLIPSTREAM_HOME to a folder of yours"
            ) from error
        return made

    def around(self, stage: Stage) -> Stage:
        """``stage``, recorded when it runs; the same one if it runs no torch."""
        if stage.name not in SCHEDULES:
            return stage

        def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
            with self._recorded(stage.name, progress) as stepped:
                return stage.work(outputs, out, stepped)

        return replace(stage, work=work)

    @contextmanager
    def _recorded(self, stage: str, progress: Progress) -> Iterator[Progress]:
        """Record what happens inside, and keep it however that ends; gives the progress that counts the steps."""
        import torch
        from torch.profiler import ProfilerActivity, profile, schedule

        planned, owner = SCHEDULES[stage], get_ident()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        steps = None if planned is None else schedule(**asdict(planned), repeat=1)
        recorded: list[StageProfile] = []
        with self._kept(stage, recorded):
            with profile(
                activities=activities,
                schedule=steps,
                with_flops=True,
                acc_events=True,  # there is one cycle; without it torch warns of those that are not kept
                on_trace_ready=lambda one: recorded.append(self._read(stage, one, planned)),
            ) as running:

                def stepped(share: float, doing: str) -> None:
                    progress(share, doing)
                    if get_ident() == owner:  # the profiler is its thread's own
                        running.step()

                yield stepped
            if not recorded:
                recorded.append(StageProfile(stage, 0, None, (), _too_short(planned, running.step_num)))

    @contextmanager
    def _kept(self, stage: str, recorded: Sequence[StageProfile]) -> Iterator[None]:
        try:
            yield
        finally:
            self.stages += recorded
            try:
                self._keep()
            except OSError as error:
                log.warning("profile_lost", error=str(error))

    def _read(self, stage: str, running: "profile", planned: Schedule | None) -> StageProfile:
        """What the profiler has, written beside the others; a full disk costs the trace, and not the build."""
        operators = _operators(running.key_averages())
        steps = None if planned is None else running.step_num - planned.first
        trace, note = self.folder / f"{stage}.trace.json.gz", ""
        try:
            running.export_chrome_trace(str(trace))
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                trace.unlink()
            note = f"its trace could not be written: {error}"
            log.warning("trace_lost", stage=stage, error=str(error))
        return StageProfile(stage, steps, trace.name if trace.exists() else None, operators, note)

    def _keep(self) -> None:
        (self.folder / "profile.json").write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"folder": str(self.folder), "stages": [asdict(stage) for stage in self.stages]}

    def lines(self, cached: Mapping[str, Path]) -> Iterator[str]:
        """For people: the top operators of each stage, and why the others have none.

        Args:
            cached: the stages that did not run, and where their outputs are.
        """
        for stage in self.stages:
            yield ""
            yield from _stage_lines(stage)
        for name in SCHEDULES:
            if name in cached:
                yield ""
                yield f"{name} came from the cache and was not profiled; to have it made again, and what reads it:"
                yield f"  rm -r {shlex.quote(str(cached[name]))}"
        yield ""
        yield f"profile {self.folder} (traces open in https://ui.perfetto.dev or chrome://tracing)"


def _too_short(planned: Schedule | None, steps: int) -> str:
    first = 0 if planned is None else planned.first
    return f"it ended after {steps} steps, before the one at which recording begins ({first})"


def _operators(events: Iterable[Any]) -> tuple[Operator, ...]:
    """The operators that took longest by themselves.

    On a GPU an operator has the time of the kernels that it launched, and each kernel stands beside it as an event of
    the device: those are left out, or all would count twice.
    """
    of_cpu = [one for one in events if one.device_type.name == "CPU" and not one.key.startswith("ProfilerStep")]
    where = "device" if any(one.self_device_time_total > 0 for one in of_cpu) else "cpu"
    found = [(float(getattr(one, f"self_{where}_time_total")), one) for one in of_cpu]
    total = sum(own for own, _ in found) or 1.0
    return tuple(
        Operator(
            name=one.key,
            calls=int(one.count),
            self_ms=round(own / 1e3, 3),
            total_ms=round(float(getattr(one, f"{where}_time_total")) / 1e3, 3),
            share=round(own / total, 4),
            gflop=round(float(one.flops or 0) / 1e9, 6),
        )
        for own, one in sorted(found, key=lambda pair: -pair[0])[:_TOP]
    )


def _stage_lines(stage: StageProfile) -> Iterator[str]:
    recorded = "all of it" if stage.steps is None else f"{stage.steps} {'step' if stage.steps == 1 else 'steps'}"
    if stage.steps == 0:
        recorded = "a part of one step"
    yield f"{stage.stage}: {recorded if stage.trace else 'not recorded'}{f'; {stage.note}' if stage.note else ''}"
    if not stage.operators:
        if stage.trace:
            yield "  no torch operator ran"
        return
    yield f"  {'self':>7} {'self ms':>10} {'total ms':>10} {'calls':>8} {'GFLOP':>9}  operator"
    for one in stage.operators[:10]:
        times = f"{one.share:>7.1%} {one.self_ms:>10.1f} {one.total_ms:>10.1f}"
        yield f"  {times} {one.calls:>8} {one.gflop:>9.2f}  {one.name}"


__all__ = ["SCHEDULES", "BuildProfile", "Operator", "ProfileUnwritable", "Schedule", "StageProfile"]
