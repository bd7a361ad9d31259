"""The load test as Locust runs it, with its web interface, its statistics and its workers.

    locust -f loadtest/locustfile.py --scenario default --host http://127.0.0.1:8000
    locust -f loadtest/locustfile.py --scenario default --host http://127.0.0.1:8000 --headless
    locust -f loadtest/locustfile.py --master --headless --expect-workers 2 --scenario default --host http://...
    locust -f loadtest/locustfile.py --worker  # twice, on any machine

The scenario decides how much load there is; Locust's number of users and run time do not. Every request is told to
Locust as ``POST`` with its time since it was sent, and where it has them its ``TTFT`` and ``TPOT`` stand beside it, so
Locust's total counts a streamed answer thrice. What was ``cut_off`` by the end of a run is not told. Exact samples are
written beside Locust's statistics, which are rounded.

What is read and written is said on the command line alone: the web interface shows no option that is a path, and what
is posted to it changes none.
"""

from typing import Any

import gevent
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from slipstream.loadtest.sample import Sample
from slipstream.loadtest.sending.distributed import Master, Worker
from slipstream.loadtest.sending.roles import Local, Role

_OPTIONS = {
    "--scenario": "a scenario's name or path",
    "--plan": "a plan.json, in place of a scenario",
    "--tokenizer": "a tokenizer.json, for prompts of a given length",
    "--samples": "where the samples are written; without it <scenario>-<time>.jsonl",
    "--answers": "where the answers' texts are written, to count their tokens afterwards",
}


class Load(User):
    """The one user that Locust needs to run a test. It does nothing: requests come when the plan says."""

    fixed_count = 1

    @task
    def wait(self) -> None:
        """Be there until the test ends."""
        gevent.sleep(3600)


class RequestFailed(Exception):
    """What Locust counts a failure by: the sample's outcome."""


def add_options(parser: LocustArgumentParser) -> None:
    """Add the load test's own options to Locust's."""
    for name, text in _OPTIONS.items():
        parser.add_argument(name, default="", include_in_web_ui=False, help=text)
    parser.add_argument(
        "--progress", action="store_true", include_in_web_ui=False, help="say on standard output how far the run is"
    )


_roles: list[Role] = []


def begin(environment: Environment, runner: Runner, **_: Any) -> None:
    """Give this process its role."""
    if isinstance(runner, MasterRunner):
        _roles.append(Master(environment, runner, tell_locust))
    elif isinstance(runner, WorkerRunner):
        _roles.append(Worker(environment, runner, tell_locust))
    else:
        _roles.append(Local(environment, tell_locust))


def tell_locust(environment: Environment, sample: Sample, path: str) -> None:
    """Count ``sample`` in Locust's statistics."""
    if sample.outcome == "cut_off":
        return
    failed = RequestFailed(sample.outcome) if sample.outcome not in {"ok", "disconnected"} else None
    times = {"POST": sample.end_s - sample.sent_s}
    if failed is None and sample.first_s is not None:
        times["TTFT"] = sample.first_s - sample.sent_s
        if sample.outcome == "ok" and sample.output_tokens is not None and sample.output_tokens > 1:
            times["TPOT"] = (sample.end_s - sample.first_s) / (sample.output_tokens - 1)
    for kind, seconds in times.items():
        environment.events.request.fire(
            request_type=kind,
            name=path,
            response_time=seconds * 1e3,
            response_length=sample.characters if kind == "POST" else 0,
            exception=failed,
            context={"index": sample.index, "outcome": sample.outcome},
        )


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(begin)

__all__ = ["Load", "add_options", "begin", "tell_locust"]
