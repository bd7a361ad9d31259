"""How a build shows itself: a bar for each stage on a terminal, structured events otherwise. Both go to stderr."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from slipstream.build.pipeline import Watcher
from slipstream.build.stages import Status

_EVENT_SECONDS = 10.0  # between two progress events of a stage


class Bars:
    """One line for each stage, in the order of the build."""

    def __init__(self, progress: Progress, stages: Sequence[str]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            stage: progress.add_task(stage, total=1.0, start=False, doing="") for stage in stages
        }

    def started(self, stage: str) -> None:
        self._progress.start_task(self._tasks[stage])

    def progress(self, stage: str, share: float, doing: str) -> None:
        task = self._tasks[stage]
        # A library that does two passes at once tells of both; a bar that goes back tells nobody anything.
        self._progress.update(task, completed=max(share, self._progress.tasks[task].completed), doing=doing)

    def finished(self, stage: str, status: Status, seconds: float) -> None:
        word = {"asked": "", "cached": "cached", "ran": f"{seconds:.1f} s"}[status]
        self._progress.update(self._tasks[stage], completed=1.0, doing=word)
        self._progress.stop_task(self._tasks[stage])


class Events:
    """``stage_started``, now and then ``stage_progress``, ``stage_finished``."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._told = 0.0

    def started(self, stage: str) -> None:
        self._told = monotonic()
        self._log.info("stage_started", stage=stage)

    def progress(self, stage: str, share: float, doing: str) -> None:
        if monotonic() - self._told >= _EVENT_SECONDS:
            self._told = monotonic()
            self._log.info("stage_progress", stage=stage, share=round(share, 2), doing=doing)

    def finished(self, stage: str, status: Status, seconds: float) -> None:
        self._log.info("stage_finished", stage=stage, status=status, seconds=round(seconds, 2))


@contextmanager
def watched(stages: Sequence[str]) -> Iterator[Watcher]:
    """The watcher of ``stages`` that fits stderr; other log events go there as well, above the bars."""
    console = Console(stderr=True)
    if not console.is_terminal:
        _log_to(structlog.PrintLoggerFactory(sys.stderr), structlog.processors.JSONRenderer(ensure_ascii=False))
        yield Events(structlog.get_logger("slipstream.build"))
        return
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(32),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}"),
    )
    with Progress(*columns, console=console) as progress:
        # `Progress` takes stderr over while it is shown, so what is printed there appears above the bars.
        _log_to(lambda *_: structlog.PrintLogger(sys.stderr), structlog.dev.ConsoleRenderer())
        yield Bars(progress, stages)


def _log_to(factory: Any, renderer: Any) -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), renderer],
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )


__all__ = ["Bars", "Events", "watched"]
