"""The plan of a run: every request with its moment and its body, drawn from the seed before the first is sent.

An open loop is drawn whole. In a closed loop the moments depend on the answers, so the plan holds what each user will
ask in turn, and how long it thinks before, as iterators that the seed decides: user 3 asks the same on any worker.

``plan.json`` is the plan's canonical form: `Plan.digest` is the sha256 of that file.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.loadtest.scenario import Closed, Replay, Scenario
from slipstream.loadtest.schedule.arrivals import MOST_ARRIVALS, draw_offsets, too_many
from slipstream.loadtest.schedule.bodies import check_extra_body
from slipstream.loadtest.schedule.planned import Planned, planned_at, planned_by
from slipstream.loadtest.schedule.prompts import Pool, Prompt
from slipstream.loadtest.schedule.sources import check_distinct, open_source, prompts_of
from slipstream.loadtest.schedule.synthetic import MOST_PROMPTS, Synthetic
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.schedule.trace import Recorded, read_trace

FORMAT = 1


class NothingMeasured(InputError):
    """The load has no request after its warm-up."""


class PlanUnreadable(InputError):
    """No file, no plan, or a plan drawn with another tokenizer."""


@dataclass(frozen=True)
class Plan:
    """What will be asked.

    Attributes:
        arrivals: of an open loop, in the order of their moments; ``arrivals[i].index == i``. Empty in a closed loop.
        tokenizer_sha256: of the tokenizer.json that it was drawn with.
        template_tokens: what the chat template beside it adds to a message; None where that is not known.
        source: where the users of a closed loop have their prompts from.
    """

    scenario: Scenario
    arrivals: tuple[Planned, ...] = ()
    tokenizer_sha256: str | None = None
    template_tokens: int | None = None
    source: Pool | Synthetic | None = field(default=None, repr=False, compare=False)

    @property
    def is_open(self) -> bool:
        return not isinstance(self.scenario.arrivals, Closed)

    def share(self, worker: int, workers: int) -> list[Planned]:
        """The arrivals of one of ``workers`` workers, counted from 0; each arrival is one worker's, every n-th, so that
        all of them are busy all the time.
        """
        _check_worker(worker, workers)
        return list(self.arrivals[worker::workers])

    def users(self, worker: int, workers: int) -> range:
        """The users of a closed loop that run on one of ``workers`` workers; none in an open loop."""
        _check_worker(worker, workers)
        arrivals = self.scenario.arrivals
        return range(worker, arrivals.users if isinstance(arrivals, Closed) else 0, workers)

    def user(self, number: int) -> Iterator[Planned]:
        """What user ``number`` of a closed loop asks, in turn: without end, or its part of ``scenario.requests``.

        Raises:
            ValueError: there is no such user, or the loop is open.
        """
        scenario, closed = self.scenario, self.scenario.arrivals
        if not isinstance(closed, Closed) or self.source is None or not 0 <= number < closed.users:
            raise ValueError(f"the plan has no closed loop with a user {number}")
        indexes: Iterable[int] = count(number, closed.users)
        if (most := scenario.requests) is not None:
            indexes = takewhile(lambda index: index < most, indexes)
        prompts = self.source.stream(count(number, closed.users), number)
        return planned_by(scenario, closed, number, indexes, prompts)

    @cached_property
    def canonical(self) -> bytes:
        """The plan as JSON: keys sorted, no spaces, bodies that are equal written once."""
        bodies: dict[str, int] = {}
        places = {id(body): body for body in (one.body for one in self.arrivals)}  # most requests share one
        numbers = {place: bodies.setdefault(_json(body), len(bodies)) for place, body in places.items()}
        pool = self.source.prompts if isinstance(self.source, Pool) else ()
        content = {
            "format": FORMAT,
            "scenario": self.scenario.model_dump(mode="json"),
            "tokenizer_sha256": self.tokenizer_sha256,
            "template_tokens": self.template_tokens,
            "bodies": [json.loads(body) for body in bodies],
            "arrivals": [
                [one.scheduled_s, one.prompt, numbers[id(one.body)], one.measured, one.disconnect_after]
                for one in self.arrivals
            ],
            "pool": [[one.id, one.asked, one.max_tokens] for one in pool],
        }
        return _json(content).encode()

    @cached_property
    def digest(self) -> str:
        """sha256 of `canonical`, in hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()

    def save(self, path: Path) -> None:
        """Write `canonical`."""
        path.write_bytes(self.canonical)

    @classmethod
    def read(cls, path: Path, tokenizer: ServerTokenizer | None = None) -> "Plan":
        """The plan that `save` wrote.

        Args:
            tokenizer: the one that it was drawn with; only a closed loop with synthetic prompts needs it.

        Raises:
            PlanUnreadable: see there.
            TokenizerMissing: see ``tokenizer``.
        """
        try:
            written = json.loads(path.read_bytes())
            if written["format"] != FORMAT:
                raise ValueError(f"its format is {written['format']!r}, not {FORMAT}")
            scenario = Scenario.model_validate(written["scenario"])
            arrivals = tuple(_arrivals(written))
            pool = tuple(Prompt(*one) for one in written["pool"])
            digest, template_tokens = written["tokenizer_sha256"], written["template_tokens"]
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise PlanUnreadable(f"{path} is no plan: {error}", "give the plan.json of a load test") from error
        source: Pool | Synthetic | None = Pool(pool, scenario.seed) if pool else None
        if isinstance(scenario.arrivals, Closed) and not pool:
            if tokenizer is not None and tokenizer.sha256 != digest:
                raise PlanUnreadable(f"{path} was drawn with another tokenizer", "give the tokenizer of that run")
            source = open_source(scenario, tokenizer)
        return cls(scenario, arrivals, digest, template_tokens, source)


def draw(scenario: Scenario, tokenizer: ServerTokenizer | None = None) -> Plan:
    """Draw ``scenario``'s requests from its seed; the same files, tokenizer and seed give the same plan, byte for byte.

    Raises:
        InputError: a trace, a file of prompts or ``extra_body`` is wrong; prompts of a given length without a
            tokenizer; more requests than a plan holds; none after the warm-up.
    """
    check_extra_body(scenario.extra_body)
    digest = tokenizer.sha256 if tokenizer else None
    template_tokens = tokenizer.template_tokens if tokenizer and scenario.endpoint == "chat" else None
    if isinstance(scenario.arrivals, Closed):
        source = open_source(scenario, tokenizer)
        check_distinct(source, scenario.requests or MOST_PROMPTS)
        return Plan(scenario, (), digest, template_tokens, source)
    moments = _moments(scenario)
    if not any(moment.offset_s >= scenario.warmup for moment in moments):
        raise NothingMeasured(
            f"the load has {len(moments)} requests and none after its warm-up of {scenario.warmup:g} s",
            "give a shorter warmup, a longer duration, more requests or a higher rate",
        )
    arrivals = tuple(planned_at(scenario, moments, prompts_of(scenario, moments, tokenizer)))
    return Plan(scenario, arrivals, digest, template_tokens)


def _moments(scenario: Scenario) -> list[Recorded]:
    """When requests are due, with the lengths that a trace gives them."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, Closed):
        raise ValueError("the moments of a closed loop are not drawn")
    if not isinstance(arrivals, Replay):
        offsets = draw_offsets(
            arrivals, scenario.seed, warmup_s=scenario.warmup, duration_s=scenario.duration, count=scenario.requests
        )
        return [Recorded(offset, None, None) for offset in offsets.tolist()]
    recorded = read_trace(Path(arrivals.trace), arrivals.speed)
    if scenario.duration is not None:
        end_s = scenario.warmup + scenario.duration
        recorded = tuple(takewhile(lambda one: one.offset_s < end_s, recorded))
    moments = list(recorded[: scenario.requests])
    if len(moments) > MOST_ARRIVALS:
        raise too_many()
    return moments


def _arrivals(written: dict[str, Any]) -> Iterator[Planned]:
    bodies = written["bodies"]
    for index, (moment, prompt, body, measured, disconnect_after) in enumerate(written["arrivals"]):
        yield Planned(index, moment, prompt, bodies[body], measured, disconnect_after)


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check_worker(worker: int, workers: int) -> None:
    if not 0 <= worker < workers:
        raise ValueError(f"there is no worker {worker} of {workers}")


__all__ = ["NothingMeasured", "Plan", "PlanUnreadable", "Planned", "draw"]
