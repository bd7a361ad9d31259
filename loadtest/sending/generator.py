"""Sends a plan's requests when they are due, whatever became of those before.

An open loop has one greenlet that sleeps until the next arrival and gives it a greenlet of its own, so a late answer
never delays an arrival. ``sent`` is written when that greenlet runs: what the loop was late by, be it a timer, a busy
core or another greenlet, shows as lag. The timers of libev's epoll loop count in whole milliseconds and never fire
early, so half a millisecond of lag is usual; the kernel's timer slack of 50 µs is small against it. Python's garbage
collector stands still during a run but for its young generation: a full collection stops everything for longer than
what is measured.

After the last arrival the run waits for all that is in flight. No request is longer than ``timeouts.total``, so that is
how long the wait can be. Ending it sooner would cut off the slowest, and only them, and make a slow server look fast. A
request is ``cut_off`` only where the run is stopped.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import gevent
from gevent.event import Event
from gevent.pool import Group

from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.sending.client import Client, CutOff, Exchange
from slipstream.loadtest.sending.reading import outcome_of
from slipstream.loadtest.sending.recording import Recorder

_AFTER_FAILED_S = 0.1  # a user without pauses would ask a server that is dead, full or broken as fast as the core can


class Generator:
    """One worker's share of a plan. `run` blocks its greenlet; `stop` comes from another."""

    def __init__(self, plan: Plan, client: Client, recorder: Recorder, worker: int = 0, workers: int = 1) -> None:
        self._plan, self._client, self._recorder = plan, client, recorder
        self._worker, self._workers = worker, workers
        self._stopped = Event()
        self._group = Group()
        self._start = 0.0

    def run(self, start: float) -> None:
        """Send all requests and wait for what they come to; ``start`` is a moment of ``time.perf_counter``."""
        self._start = start
        self._client.prepare()
        self._recorder.open(start)
        with _collector_still():
            if self._plan.is_open:
                self._open_loop()
            else:
                for number in self._plan.users(self._worker, self._workers):
                    self._group.spawn(self._user, number)
            self._group.join()
            self._recorder.close()
        self._client.close()

    def stop(self) -> None:
        """Send nothing more, and cut off what is in flight."""
        self._stopped.set()
        gevent.sleep(0)  # a greenlet that has not begun would be killed without a sample
        self._group.kill(CutOff)

    def _open_loop(self) -> None:
        for planned in self._plan.share(self._worker, self._workers):
            if planned.scheduled_s is None:
                raise ValueError(f"arrival {planned.index} of an open loop has no moment")
            due = self._start + planned.scheduled_s
            if not self._wait_until(due):
                return
            self._group.spawn(self._ask, Exchange(planned, due, planned.measured))

    def _user(self, number: int) -> None:
        scenario = self._plan.scenario
        end = self._start + scenario.warmup + scenario.duration if scenario.duration is not None else float("inf")
        ready = self._start
        for planned in self._plan.user(number):
            ready += planned.think_s
            if ready >= end or not self._wait_until(ready):
                return
            exchange = Exchange(planned, ready, measured=ready - self._start >= scenario.warmup)
            self._ask(exchange)
            ready = exchange.end + (_AFTER_FAILED_S if self._is_failed(exchange) else 0.0)

    def _is_failed(self, exchange: Exchange) -> bool:
        """Whether it was refused, or came to nothing sooner than a pause lasts: what took longer floods nobody."""
        if exchange.is_refused:
            return True
        is_quick = exchange.end - exchange.sent < _AFTER_FAILED_S  # reading takes time, so only those are read here
        return is_quick and outcome_of(exchange, is_streamed=self._plan.scenario.stream) not in {"ok", "disconnected"}

    def _ask(self, exchange: Exchange) -> None:
        self._recorder.tally.sent += 1
        self._recorder.put(self._client.ask(exchange))

    def _wait_until(self, moment: float) -> bool:
        """Whether it came before the run was stopped."""
        while (left := moment - perf_counter()) > 0:
            if self._stopped.wait(left):
                break
        return not self._stopped.is_set()


@contextmanager
def _collector_still() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there already is not looked at again
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


__all__ = ["Generator"]
