"""``slipstream loadtest --find-capacity``: begin a search, go on with one, or conclude what ran of one."""

import json
import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from slipstream.loadtest.capacity.findings import Point
from slipstream.loadtest.capacity.outcome import Capacity
from slipstream.loadtest.capacity.page import write_page
from slipstream.loadtest.capacity.points import NoCapacity, first_rate, sizing
from slipstream.loadtest.capacity.record import Begun, CapacityFolder, Conditions
from slipstream.loadtest.capacity.searching import Searching, expected_s, points_in
from slipstream.loadtest.capacity.terminal import before, closing, head, row
from slipstream.loadtest.folder import NoRunThere, new_folder
from slipstream.loadtest.preparation import asked, changed
from slipstream.loadtest.run import Watch
from slipstream.loadtest.terminal import shown
from slipstream.settings import Settings

PRECISION = 0.1
MAX_TIME_S = 1800.0


def is_search(folder: Path) -> bool:
    """Whether ``folder`` is that of a capacity search."""
    return CapacityFolder(folder).record.is_file()


@dataclass(frozen=True)
class Wanted:
    """What the command line says of a search; None: as it is by default, or as the search in ``again`` began.

    Attributes:
        changes: of the scenario; ``requests`` and ``duration`` are those of a point.
        again: the folder of a search; ``go_on`` with it, or else only conclude what ran.
    """

    scenario: str
    changes: Mapping[str, Any]
    url: str | None = None
    tokenizer: Path | None = None
    processes: int = 1
    precision: float | None = None
    max_time_s: float | None = None
    again: Path | None = None
    go_on: bool = True
    as_json: bool = False


def capacity(wanted: Wanted, settings: Settings) -> int:
    """Begin a search, go on with one or conclude one; the exit code.

    Raises:
        NoCapacity: the scenario has none that could be searched, or a search was to go on in another way.
        ServerAway: nothing answers.
        NoSearchThere: there is none to go on with.
    """
    if wanted.again is not None and not wanted.go_on:
        return _conclude(CapacityFolder(wanted.again), as_json=wanted.as_json)
    if wanted.again is not None:
        folder = CapacityFolder(wanted.again)
        conditions, begun = _as_before(folder, wanted)
        asked(conditions.url)
    else:
        conditions, begun = _conditions(wanted, settings), []
        asked(conditions.url)  # a folder is made for what can begin
        folder = CapacityFolder(new_folder(settings.home / "reports", "capacity", conditions.scenario.name))
    folder.write(conditions, begun)
    return _search(folder, conditions, settings, as_json=wanted.as_json)


def _conditions(wanted: Wanted, settings: Settings) -> Conditions:
    changes = dict(wanted.changes)
    requests, least_s = changes.pop("requests", None), changes.pop("duration", None)
    scenario = changed(wanted.scenario, changes)
    first_rate(scenario)
    conditions = Conditions(
        scenario=scenario,
        url=wanted.url or f"http://{settings.host}:{settings.port}",
        tokenizer=wanted.tokenizer,
        processes=wanted.processes,
        precision=wanted.precision or PRECISION,
        size=sizing(scenario, requests, least_s),
        max_time_s=wanted.max_time_s or MAX_TIME_S,
        command=shlex.join(["slipstream", *sys.argv[1:]]),
        started_at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
    )
    _check_time(conditions)
    return conditions


def _as_before(folder: CapacityFolder, wanted: Wanted) -> tuple[Conditions, list[Begun]]:
    """The search in ``folder``, perhaps more precise, and where the server is now."""
    if unfit := [name for name, value in wanted.changes.items() if value is not None]:
        raise NoCapacity(f"a search goes on as it began, without --{unfit[0]}", "leave it out, or begin a new one")
    was, begun, _ = folder.read()
    conditions = replace(
        was,
        url=wanted.url or was.url,
        precision=wanted.precision or was.precision,
        max_time_s=wanted.max_time_s or was.max_time_s,
    )
    return conditions, begun


def _check_time(conditions: Conditions) -> None:
    rate = first_rate(conditions.scenario)
    length_s = conditions.size.length_s(rate, conditions.scenario.warmup)
    if length_s > conditions.max_time_s:
        raise NoCapacity(
            f"one point takes {length_s:.0f} s ({conditions.size.requests_at(rate)} requests at {rate:g}/s), "
            f"and --max-time is {conditions.max_time_s:g} s",
            "give more time, or begin at a higher --rate",
        )


def _conclude(folder: CapacityFolder, *, as_json: bool) -> int:
    conditions, begun, ended = folder.read()
    points = points_in(folder, begun)
    if not points:
        raise NoRunThere(
            f"no point of the search in {folder.root} began", f"go on: --find-capacity --from {folder.root}"
        )
    found = Capacity(tuple(points), conditions.precision, ended, is_void=points[-1].word == "void")
    folder.write(conditions, begun, ended, found.as_dict())
    if not as_json:
        click.echo(head(conditions.scenario))
        for point in points:
            click.echo(row(point))
    return _close(folder, conditions, found, as_json=as_json)


def _search(folder: CapacityFolder, conditions: Conditions, settings: Settings, *, as_json: bool) -> int:
    def show(name: str) -> AbstractContextManager[Watch]:
        return shown(quiet=as_json, name=name)

    def told(point: Point) -> None:
        if not as_json:
            click.echo(row(point))

    if not as_json:
        click.echo(before(conditions, *expected_s(conditions)))
        click.echo(f"folder   {folder.root}\n")
        click.echo(head(conditions.scenario))
    return _close(folder, conditions, Searching(folder, settings, show, told).run(), as_json=as_json)


def _close(folder: CapacityFolder, conditions: Conditions, found: Capacity, *, as_json: bool) -> int:
    if found.points:
        write_page(folder, conditions, found)
    if as_json:
        click.echo(json.dumps(json.loads(folder.record.read_bytes()), ensure_ascii=False, indent=2))
    else:
        for line in closing(found, folder):
            click.echo(line)
    return found.exit_code


__all__ = ["MAX_TIME_S", "PRECISION", "Wanted", "capacity", "is_search"]
