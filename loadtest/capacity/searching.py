"""The search as it runs: a point after the other until the rate is found, time is over, or nothing more can be said."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from math import ceil, log, log2

from slipstream import EnvironmentFault
from slipstream.loadtest.capacity.findings import Point, judge_point, tried
from slipstream.loadtest.capacity.outcome import Capacity, per_second
from slipstream.loadtest.capacity.points import first_rate, scenario_at
from slipstream.loadtest.capacity.record import Begun, CapacityFolder, Conditions
from slipstream.loadtest.capacity.search import next_rate
from slipstream.loadtest.capacity.stopping import Watcher
from slipstream.loadtest.folder import NoRunThere
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import State, Watch, generate
from slipstream.settings import Settings

REST_S = 2.0
"""After a point that was cut off, until the next one begins: the server has to let its requests go."""

Shown = Callable[[str], AbstractContextManager[Watch]]


def expected_s(given: Conditions) -> tuple[float, float]:
    """About how long a search takes whose answer is near the scenario's rate: seconds at least and at most."""
    rate = first_rate(given.scenario)
    halvings = ceil(log2(log(2) / log(1 + given.precision)))
    point_s = given.size.length_s(rate, given.scenario.warmup)
    return (1 + halvings) * point_s, (5 + halvings) * point_s


def go_on(
    given: Conditions,
    points: list[Point],
    run_point: Callable[[float], Point],
    clock: Callable[[], float] = time.monotonic,
) -> Capacity:
    """Add to ``points`` until the search is over; Ctrl-C ends it, and what ran counts.

    Raises:
        EnvironmentFault: the first point could not run.
    """
    began = clock()
    ended, is_void = "", False
    try:
        while not ended:
            rate = next_rate(tried(points), first_rate(given.scenario), given.precision)
            if rate is None:
                break
            if clock() - began + given.size.length_s(rate, given.scenario.warmup) > given.max_time_s:
                ended = f"the next point, {per_second(rate)}, would end after the {given.max_time_s:g} s of --max-time"
                break
            points.append(run_point(rate))
            ended, is_void = _end_at(points[-1]), points[-1].word == "void"
    except KeyboardInterrupt:
        ended = "it was stopped"
    except EnvironmentFault as error:
        if not points:
            raise
        ended, is_void = error.message, True
    return Capacity(tuple(points), given.precision, ended, is_void)


def _end_at(point: Point) -> str:
    """Why nothing can come after it; empty where something can."""
    if point.word == "void":
        because = "; ".join(check.message for check in point.result.void_because)
        return f"the point at {per_second(point.rate)} is void: {because}"
    return "it was stopped" if point.word == "unfinished" else ""


class Searching:
    """A search in ``folder``, from its beginning or from where it was, kept there as it goes.

    Args:
        show: opens a display for a point of that name, which is told how far it is.
        told: is told of every point that ended.
    """

    def __init__(self, folder: CapacityFolder, home: Settings, show: Shown, told: Callable[[Point], None]) -> None:
        self._folder, self._home, self._show, self._told = folder, home, show, told
        self._given, self._begun, _ = folder.read()
        self._points = points_in(folder, self._begun)

    def run(self) -> Capacity:
        """See `go_on`."""
        found = go_on(self._given, self._points, self._point)
        self._folder.write(self._given, self._begun, found.ended, found.as_dict())
        return found

    def _point(self, rate: float) -> Point:
        given, number = self._given, len(self._begun) + 1
        if self._points and self._points[-1].stopped_s is not None:
            time.sleep(REST_S)
        scenario = scenario_at(given.scenario, rate, number, given.size)
        begun = Begun(number, rate, f"point-{number:02}")
        run = prepare(scenario, given.url, self._home, given.tokenizer, self._folder.point(begun).root)
        self._keep(begun)
        watcher = Watcher(scenario, run.samples, given.size.requests_at(rate))
        with self._show(f"point {number}, {per_second(rate)}") as watch:

            def look(state: State) -> bool:
                watch(state)
                return watcher.look()

            generate(run, given.url, look, processes=given.processes)
        if watcher.reason is not None:
            begun = replace(begun, stopped=watcher.reason)
            self._keep(begun)
        point = judge_point(self._folder, begun)
        self._told(point)
        return point

    def _keep(self, begun: Begun) -> None:
        self._begun = [*(one for one in self._begun if one.number != begun.number), begun]
        found = Capacity(tuple(self._points), self._given.precision)
        self._folder.write(self._given, self._begun, outcome=found.as_dict())


def points_in(folder: CapacityFolder, begun: list[Begun]) -> list[Point]:
    """Those that have samples, concluded anew; one that was killed before its first is left out."""
    found = []
    for one in begun:
        try:
            found.append(judge_point(folder, one))
        except NoRunThere:
            continue
    return found


__all__ = ["REST_S", "Searching", "Shown", "expected_s", "go_on", "points_in"]
