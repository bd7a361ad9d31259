"""A load test over several Locust processes: a master, and workers that each send their share.

The master draws or reads the plan and sends it to each worker with its number. When all have read it, it names the
moment at which the run begins, in wall-clock time: each worker goes by its own clock from there, so clocks of several
machines have to agree as well as NTP makes them. Samples come to the master as they end, and it alone writes them.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from slipstream import InputError
from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.sending.generator import Generator
from slipstream.loadtest.sending.progress import Progress
from slipstream.loadtest.sending.recording import Batch, Files, Tally
from slipstream.loadtest.sending.roles import LEAD_S, Listener, NoRun, Role, files_of, plan_of

_STOP_S = 15.0  # what workers have for their last samples
_LOOK_S = 0.5  # how often the master looks who is still there

Handler = Callable[[dict[str, Any], str], None]


class Worker(Role):
    """Sends its share of the master's plan and reports what ends."""

    def __init__(self, environment: Environment, runner: WorkerRunner, listen: Listener) -> None:
        super().__init__(environment, listen)
        self._runner = runner
        self._now: Generator | None = None
        self._run: gevent.Greenlet[..., Any] | None = None
        self._tally = Tally()
        runner.register_message("loadtest_plan", _handled(self._take_plan))
        runner.register_message("loadtest_start", _handled(self._take_start))
        runner.register_message("loadtest_stop", _handled(lambda *_: self.stop()), concurrent=True)

    def stop(self) -> None:
        if self._now is not None and self._run is not None and not self._run.ready():
            self._now.stop()
            self._run.join()

    def _take_plan(self, said: dict[str, Any], _: str) -> None:
        self.environment.host = said["host"]
        try:
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                file.write(said["plan"])
                file.flush()
                tokenizer = ServerTokenizer(Path(said["tokenizer"])) if said["tokenizer"] else None
                plan = Plan.read(Path(file.name), tokenizer)
            self._now, recorder = self.generator(plan, self._report, said["worker"], said["workers"])
        except InputError as error:
            self._now = None
            self._runner.send_message("loadtest_done", {"error": error.message, "remedy": error.remedy})
            return
        self._tally = recorder.tally
        self._runner.send_message("loadtest_ready", {})

    def _take_start(self, said: dict[str, Any], _: str) -> None:
        if self._now is not None:
            self._run = gevent.spawn(self._load, self._now, time.perf_counter() + said["at"] - time.time())

    def _load(self, generator: Generator, start: float) -> None:
        generator.run(start)
        self._runner.send_message("loadtest_done", {})

    def _report(self, batch: Batch) -> None:
        said = {"samples": list(batch.samples), "answers": list(batch.answers), "tally": self._tally.to_dict()}
        self._runner.send_message("loadtest_samples", said)


class Master(Role):
    """Splits the plan over the workers that are there when the test begins, and writes their samples."""

    def __init__(self, environment: Environment, runner: MasterRunner, listen: Listener) -> None:
        super().__init__(environment, listen)
        self._runner = runner
        self._awaited: set[str] = set()
        self._lost: set[str] = set()
        self._ready: set[str] = set()
        self._tallies: dict[str, Tally] = {}
        self._failure: InputError | None = None
        self._files: Files | None = None
        self._run: gevent.Greenlet[..., Any] | None = None
        self._changed = Event()
        environment.events.test_start.add_listener(lambda **_: self._begin())
        runner.register_message("loadtest_ready", _handled(self._take_ready))
        runner.register_message("loadtest_samples", _handled(self._take_samples))
        runner.register_message("loadtest_done", _handled(self._take_done))

    def stop(self) -> None:
        if self._run is None or self._run.ready():
            return
        self.stopped_at = time.perf_counter()
        self.environment.process_exit_code = 0
        for worker in sorted(self._awaited):
            self._runner.send_message("loadtest_stop", {}, client_id=worker)
        self._changed.set()
        self._run.join(timeout=_STOP_S)

    def _begin(self) -> None:
        options, clients = self.options, self._runner.clients
        workers = [client.id for client in clients.ready + clients.running + clients.spawning]
        self.stopped_at, self._failure = None, None
        self._awaited, self._lost, self._ready, self._tallies = set(workers), set(), set(), {}
        try:
            plan = plan_of(options)
            self.client(plan).close()
            self._files, path = files_of(options, plan)
        except InputError as error:
            self.refuse(error)
            return
        said = {"plan": plan.canonical, "tokenizer": getattr(options, "tokenizer", None), "host": self.environment.host}
        for number, worker in enumerate(workers):
            share = said | {"worker": number, "workers": len(workers)}
            self._runner.send_message("loadtest_plan", share, client_id=worker)
        is_told = bool(getattr(options, "progress", False))
        self._run = gevent.spawn(self._conduct, Progress(plan, path, len(workers), self._tally, is_told=is_told))

    def _conduct(self, progress: Progress) -> None:
        self._wait(lambda: self._awaited <= self._ready or self._failure is not None or self.stopped_at is not None)
        if self._failure is None and self.stopped_at is None:
            at = time.time() + LEAD_S
            progress.begin(time.perf_counter() + LEAD_S)
            for worker in sorted(self._awaited):
                self._runner.send_message("loadtest_start", {"at": at}, client_id=worker)
            self._wait(lambda: not self._awaited)
        progress.end(stopped_at=self.stopped_at, lost_workers=len(self._lost))
        if self._files is not None:
            self._files.close()
            self._files = None
        if self._failure is not None:
            self.refuse(self._failure)
        else:
            self.leave(exit_code=0)

    def _wait(self, is_over: Callable[[], bool]) -> None:
        """Until ``is_over``. Who is gone is not waited for: what was that worker's is missing, and the run is void."""
        while not is_over():
            self._changed.wait(_LOOK_S)
            self._changed.clear()
            known = self._runner.clients
            gone = {one for one in self._awaited if one not in known or known[one].state == STATE_MISSING}
            self._awaited -= gone
            self._lost |= gone

    def _take_ready(self, _: dict[str, Any], worker: str) -> None:
        self._ready.add(worker)
        self._changed.set()

    def _take_samples(self, said: dict[str, Any], worker: str) -> None:
        self._tallies[worker] = Tally(**said["tally"])
        if self._files is not None:
            self._files.write(Batch(said["samples"], said["answers"]))

    def _take_done(self, said: dict[str, Any], worker: str) -> None:
        if "error" in said:
            self._failure = NoRun(f"worker {worker} cannot: {said['error']}", said["remedy"])
        self._awaited.discard(worker)
        self._changed.set()

    def _tally(self) -> Tally:
        return total(self._tallies.values())


def total(tallies: Iterable[Tally]) -> Tally:
    """All of ``tallies`` together."""
    return reduce(Tally.plus, tallies, Tally())


def _handled(handler: Handler) -> Callable[..., None]:
    """``handler`` as Locust calls it: with what was said, and which process said it."""

    def take(environment: Environment, msg: Any, **_: Any) -> None:
        handler(msg.data or {}, msg.node_id)

    return take


__all__ = ["Master", "Worker"]
