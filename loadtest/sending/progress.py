"""What the process that started the load reads of it: JSON lines on standard output, about two per second.

``{"event": "start", "at": <seconds since the epoch>, "monotonic": <time.perf_counter() of the same moment>, "planned":
<arrivals, null in a closed loop>, "workers": 1, "samples": "<path>"}`` once, when the moment of the start is known,
which is up to a second ahead. Then ``{"event": "progress", "elapsed_s": 12.5, "sent": 40, "ended": 38, "in_flight": 2,
"errors": 1}``, and at last the same with the event ``end`` and ``"stopped": true`` where the run was stopped; then
``elapsed_s`` is the moment of that, after which nothing was sent, and not when all that came was read. It has
``lost_workers`` where some were gone before the end. Anything else in the output is not the load test's. When nobody
reads it any more, the run is stopped.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.sending.recording import Tally

_EVERY_S = 0.5


class Progress:
    """Tells how far a run is; says nothing unless ``is_told``."""

    def __init__(self, plan: Plan, samples: Path, workers: int, tally: Callable[[], Tally], *, is_told: bool) -> None:
        self._planned = len(plan.arrivals) if plan.is_open else None
        self._samples, self._workers = samples, workers
        self._tally, self._is_told = tally, is_told
        self._start = 0.0
        self._greenlet: gevent.Greenlet[..., Any] | None = None

    def begin(self, start: float) -> None:
        """Begin; ``start`` is the run's first moment by ``time.perf_counter``."""
        self._start = start
        at = time.time() + start - time.perf_counter()
        known = {"planned": self._planned, "workers": self._workers, "samples": str(self._samples)}
        self._say({"event": "start", "at": round(at, 6), "monotonic": round(start, 6)} | known)
        self._greenlet = gevent.spawn(self._go_on)

    def end(self, *, stopped_at: float | None, lost_workers: int = 0) -> None:
        """The run is over and its samples are written.

        Args:
            stopped_at: when it was stopped, of the same clock as its start.
            lost_workers: how many were gone before it ended.
        """
        if self._greenlet is not None:
            self._greenlet.kill()
        stopped = {} if stopped_at is None else {"elapsed_s": round(max(stopped_at - self._start, 0.0), 3)}
        lost = {"lost_workers": lost_workers} if lost_workers else {}
        self._say(self._state("end") | stopped | {"stopped": stopped_at is not None} | lost)

    def _go_on(self) -> None:
        while True:
            gevent.sleep(_EVERY_S)
            self._say(self._state("progress"))

    def _state(self, event: str) -> dict[str, Any]:
        tally = self._tally()
        elapsed = round(time.perf_counter() - self._start, 3)
        return {"event": event, "elapsed_s": elapsed, **tally.to_dict(), "in_flight": tally.in_flight}

    def _say(self, said: dict[str, Any]) -> None:
        if not self._is_told:
            return
        try:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # whoever started the load is gone, and nobody wants it any more
            self._is_told = False
            os.kill(os.getpid(), signal.SIGTERM)


__all__ = ["Progress"]
