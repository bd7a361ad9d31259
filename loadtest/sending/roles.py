"""A load test in a Locust process: what every process does, and a process that does all of it.

The load is not bound to Locust's users: the plan decides when what is sent. It begins with Locust's test, and ends
Locust's test when all is answered.
"""

import sys
import time
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment

from slipstream import InputError
from slipstream.loadtest.credentials import api_key
from slipstream.loadtest.loading import load_scenario
from slipstream.loadtest.sample import Sample
from slipstream.loadtest.schedule.plan import Plan, draw
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.sending.client import Client
from slipstream.loadtest.sending.generator import Generator
from slipstream.loadtest.sending.progress import Progress
from slipstream.loadtest.sending.recording import Batch, Files, Recorder

LEAD_S = 0.5  # from when all are ready until the first moment of a run

Listener = Callable[[Environment, Sample, str], None]


class NoRun(InputError):
    """The options do not say what to send where."""


def plan_of(options: Any) -> Plan:
    """The plan that ``--plan`` names, or one drawn from ``--scenario``.

    Raises:
        InputError: there is neither, or it is wrong.
    """
    tokenizer = ServerTokenizer(Path(options.tokenizer)) if options.tokenizer else None
    if options.plan:
        return Plan.read(Path(options.plan), tokenizer)
    if options.scenario:
        return draw(load_scenario(options.scenario), tokenizer)
    raise NoRun("neither a scenario nor a plan is given", "add --scenario NAME or --plan FILE")


def files_of(options: Any, plan: Plan) -> tuple[Files, Path]:
    """Where the samples of the next run go; a second run of one process does not write over those of the first."""
    wanted = Path(options.samples or f"{plan.scenario.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")
    path, number = wanted, 1
    while path.exists() and path.stat().st_size:
        number += 1
        path = wanted.with_stem(f"{wanted.stem}-{number}")
    answers = Path(options.answers) if options.answers else None
    if answers is not None and number > 1:
        answers = answers.with_stem(f"{answers.stem}-{number}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Files(path, answers), path
    except OSError as error:
        raise NoRun(f"samples cannot be written: {error}", "give another --samples") from error


class Role(ABC):
    """What all have in common: a run that begins with Locust's test and is stopped with it."""

    def __init__(self, environment: Environment, listen: Listener) -> None:
        self.environment, self._listen = environment, listen
        # As they were typed: whoever reaches the web interface may change Locust's own, be they shown there or not.
        self.options = Namespace(**vars(environment.parsed_options))
        self.stopped_at: float | None = None  # of ``time.perf_counter``
        environment.events.test_stopping.add_listener(lambda **_: self.stop())
        environment.events.quitting.add_listener(lambda **_: self.stop())

    @abstractmethod
    def stop(self) -> None:
        """End the run, and come back when its samples are safe."""

    def client(self, plan: Plan) -> Client:
        if not self.environment.host:
            raise NoRun("no server is given", "add --host http://127.0.0.1:8000")
        return Client(plan.scenario, self.environment.host, api_key())

    def generator(
        self, plan: Plan, deliver: Callable[[Batch], None], worker: int, workers: int
    ) -> tuple[Generator, Recorder]:
        client = self.client(plan)
        recorder = Recorder(
            deliver,
            lambda sample: self._listen(self.environment, sample, client.path),
            is_streamed=plan.scenario.stream,
            worker=worker,
            with_spans=plan.scenario.stage_times == "spans",
        )
        return Generator(plan, client, recorder, worker, workers), recorder

    def refuse(self, error: InputError) -> None:
        """A run that cannot be: in the web interface the message is in the log, else the process ends with 2."""
        sys.stderr.write(f"error: {error.message}\n" + (f"  {error.remedy}\n" if error.remedy else ""))
        self.leave(exit_code=2)

    def leave(self, exit_code: int) -> None:
        """End Locust's test, and without a web interface Locust. From a greenlet that the end of neither kills."""
        runner = self.environment.runner
        if runner is None or self.stopped_at is not None:
            return
        if self.environment.web_ui is None:
            self.environment.process_exit_code = exit_code
            # Locust writes its CSV files once per second, and not once more when it ends.
            gevent.spawn_later(1.5 if getattr(self.environment.parsed_options, "csv_prefix", None) else 0, runner.quit)
        else:
            gevent.spawn(runner.stop)


class Local(Role):
    """One process that does everything."""

    def __init__(self, environment: Environment, listen: Listener) -> None:
        super().__init__(environment, listen)
        self._generator_now: Generator | None = None
        self._run: gevent.Greenlet[..., Any] | None = None
        environment.events.test_start.add_listener(lambda **_: self._begin())

    def _begin(self) -> None:
        options = self.options
        self.stopped_at = None
        try:
            plan = plan_of(options)
            self.client(plan).close()  # a wrong address is an error before a file is made
            files, path = files_of(options, plan)
            self._generator_now, recorder = self.generator(plan, files.write, 0, 1)
        except InputError as error:
            self.refuse(error)
            return
        progress = Progress(plan, path, 1, lambda: recorder.tally, is_told=bool(getattr(options, "progress", False)))
        self._run = gevent.spawn(self._load, self._generator_now, files, progress)

    def _load(self, generator: Generator, files: Files, progress: Progress) -> None:
        start = time.perf_counter() + LEAD_S
        progress.begin(start)
        generator.run(start)
        files.close()
        progress.end(stopped_at=self.stopped_at)
        self.leave(exit_code=0)

    def stop(self) -> None:
        if self._generator_now is not None and self._run is not None and not self._run.ready():
            self.stopped_at = time.perf_counter()
            self.environment.process_exit_code = 0
            self._generator_now.stop()
            self._run.join()


__all__ = ["LEAD_S", "Listener", "Local", "NoRun", "Role", "files_of", "plan_of"]
