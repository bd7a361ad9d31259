"""Capturing a window of a load, and reading it.

The window opens after the scenario's warm-up. What was captured is kept whatever happens afterwards: the raw report is
in the folder before it is read.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream import EnvironmentFault
from slipstream.loadtest.comparison.serving import ask_once
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import State, Watch, generate
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.profiling.nsys.answered import answered_in, read_answered
from slipstream.profiling.nsys.reading import read_export
from slipstream.profiling.nsys.results import Reading
from slipstream.profiling.nsys.serving import served_in
from slipstream.profiling.nsys.session import Session
from slipstream.profiling.nsys.tool import Nsys, NsysFailed, uninterrupted
from slipstream.settings import Settings


class NothingCaptured(EnvironmentFault):
    """The load ended before the window opened."""


@dataclass(frozen=True)
class CaptureFolder:
    """``nsys/`` of a profile's folder."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "capture.qdstrm"

    @property
    def report(self) -> Path:
        return self.root / "capture.nsys-rep"

    @property
    def export(self) -> Path:
        return self.root / "capture.sqlite"

    @property
    def reading(self) -> Path:
        return self.root / "reading.json"

    @property
    def answered(self) -> Path:
        return self.root / "answered.json"

    @property
    def log(self) -> Path:
        return self.root / "serve.log"

    @property
    def load(self) -> Path:
        return self.root / "load"


@dataclass(frozen=True)
class Wanted:
    """What is to be captured.

    Attributes:
        window_s: how long at most; the load may end before.
        bundle: a bundle's folder; empty: the active one.
        session: of a server that runs already at ``url``; empty: one is started.
    """

    scenario: Scenario
    window_s: float
    bundle: str = ""
    session: str = ""
    url: str = ""


@dataclass
class Window:
    """Opens after the warm-up and closes after its length, by what the load says of itself about twice a second.

    Attributes:
        opened_s, closed_s: ``time.perf_counter``; None: it did not.
    """

    session: Session
    into: Path
    after_s: float
    length_s: float
    told: Watch
    opened_s: float | None = field(default=None, init=False)
    closed_s: float | None = field(default=None, init=False)

    def watch(self, state: State) -> bool:
        """Whether the load may end."""
        self.told(state)
        if self.opened_s is None and state.elapsed_s >= self.after_s:
            self.session.start(self.into)
            self.opened_s = time.perf_counter()
        if self.opened_s is not None and time.perf_counter() - self.opened_s >= self.length_s:
            self.close()
        return self.closed_s is not None

    def close(self) -> None:
        """Stop capturing if it is still on, and write the capture."""
        if self.opened_s is not None and self.closed_s is None:
            self.closed_s = time.perf_counter()
            self.session.stop()


def capture(nsys: Nsys, wanted: Wanted, settings: Settings, into: CaptureFolder, told: Watch) -> None:
    """Load a server and capture the window into ``into.report``.

    Ctrl-C ends the load and keeps what was captured so far.

    Raises:
        ServerFailed, ServerAway, GeneratorFailed, NsysFailed, NoSuchSession, InputError: see there.
        NothingCaptured: the load ended first.
    """
    into.root.mkdir(parents=True, exist_ok=True)
    into.root.chmod(0o700)  # nsys writes down the environment of every process that this user may read
    with _server(nsys, wanted, settings, into) as (session, url):
        folder = prepare(wanted.scenario, url, settings, None, into.load)
        _, tokenizer, _ = folder.read_run()
        plan = Plan.read(folder.plan, None if tokenizer is None else ServerTokenizer(tokenizer))
        ask_once(url, wanted.scenario, plan.arrivals[0] if plan.is_open else next(plan.user(0)))
        window = Window(session, into.raw.with_suffix(""), wanted.scenario.warmup, wanted.window_s, told)
        try:
            moments = generate(folder, url, window.watch)
        finally:
            window.close()
    if window.opened_s is None:
        raise NothingCaptured(
            f"the load ended before its warm-up of {wanted.scenario.warmup:g} s did", "give a longer scenario"
        )
    if window.closed_s is not None:
        answered_in(folder, moments, window.opened_s, window.closed_s).write(into.answered)
    convert(nsys, into)


@contextmanager
def _server(nsys: Nsys, wanted: Wanted, settings: Settings, into: CaptureFolder) -> Iterator[tuple[Session, str]]:
    session = Session(nsys, wanted.session)
    if wanted.session:
        session.check()
        yield session, wanted.url
        return
    needs_collection = wanted.scenario.model == "slipstream"
    with served_in(session, settings, into.log, bundle=wanted.bundle, needs_collection=needs_collection) as url:
        yield session, url


def convert(nsys: Nsys, into: CaptureFolder) -> None:
    """Make a report of the raw capture where nsys did not, and keep the report only.

    A report beside a raw capture may be a part of one, so it is made anew where that is possible.

    Raises:
        NsysFailed: it cannot be made, or nsys left nothing.
    """
    if into.raw.is_file() and not (into.report.is_file() and nsys.importer is None):
        with uninterrupted():
            with _whole(into.report) as report:
                nsys.import_capture(into.raw, report)
            into.export.unlink(missing_ok=True)  # of the report that this one replaced
            into.raw.unlink()
    if not into.report.is_file():
        raise NsysFailed(f"nsys left no capture in {into.root}", "see the last lines of its own output: nsys status -e")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write what is to lie at ``path`` only when it is whole: beside it, with its ending, which nsys minds."""
    with TemporaryDirectory(prefix="part-", dir=path.parent) as aside:
        part = Path(aside) / path.name
        yield part
        part.replace(path)


def read(nsys: Nsys, into: CaptureFolder) -> Reading:
    """Export the report where that was not done, read it and write ``reading.json``.

    Raises:
        NsysFailed, NoExport, SchemaUnknown, NoRanges: see there.
    """
    if not into.export.is_file():
        with uninterrupted(), _whole(into.export) as export:
            nsys.export(into.report, export)
    return read_exported(into)


def read_exported(into: CaptureFolder) -> Reading:
    """Read the export and write ``reading.json``; needs no nsys.

    Raises:
        NoExport, SchemaUnknown, NoRanges: see there.
    """
    reading = read_export(into.export, read_answered(into.answered))
    into.reading.write_text(reading.to_json(), encoding="utf-8")
    return reading


__all__ = ["CaptureFolder", "NothingCaptured", "Wanted", "Window", "capture", "convert", "read", "read_exported"]
