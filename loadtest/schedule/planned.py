"""One planned request, and what is drawn for each: how long its answer is, whether its client stays and thinks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slipstream.loadtest.scenario import Closed, Scenario
from slipstream.loadtest.schedule.bodies import body_of
from slipstream.loadtest.schedule.prompts import Prompt
from slipstream.loadtest.schedule.randomness import Purpose, stream_of
from slipstream.loadtest.schedule.synthetic import bounds
from slipstream.loadtest.schedule.trace import Recorded


@dataclass(frozen=True, slots=True)
class Planned:
    """One request.

    Attributes:
        index: of the arrival; unique over all workers and users.
        scheduled_s: when it is due, in seconds since the start of the run; None in a closed loop.
        prompt: its id (`Prompt.id`).
        body: the JSON to post. Requests may share one: it is not to be changed.
        measured: whether it is due after the warm-up. In a closed loop that is known when its user is ready to ask.
        disconnect_after: content chunks after which the client goes away; None for one that stays.
        think_s: in a closed loop, how long its user waits before it; before the first one too, so that users do not
            start as one.
    """

    index: int
    scheduled_s: float | None
    prompt: str
    body: dict[str, Any]
    measured: bool = True
    disconnect_after: int | None = None
    think_s: float = 0.0


class _Draws:
    """What is drawn for one request after the other. Everything is drawn for each, needed or not, so that the next one
    does not depend on it.
    """

    def __init__(self, scenario: Scenario, *key: int) -> None:
        self._scenario = scenario
        self._output, self._leaving, self._sampling = (
            stream_of(scenario.seed, purpose, *key)
            for purpose in (Purpose.OUTPUT, Purpose.DISCONNECTS, Purpose.SAMPLING)
        )

    def max_tokens(self) -> int | None:
        tokens = self._scenario.output.tokens
        return None if tokens is None else int(self._output.integers(*bounds(tokens), endpoint=True))

    def disconnect_after(self) -> int | None:
        leaving = self._scenario.disconnects
        return leaving.chunks if self._leaving.random() < leaving.share else None

    def sampling_seed(self) -> int:
        return int(self._sampling.integers(2**31))


def planned_at(scenario: Scenario, moments: Sequence[Recorded], prompts: Iterable[Prompt]) -> Iterator[Planned]:
    """A request for each of ``moments``. A recorded output length goes before the prompt's, that before the drawn."""
    draws = _Draws(scenario)
    shared: dict[tuple[str, int | None], dict[str, Any]] = {}
    for index, (moment, prompt) in enumerate(zip(moments, prompts, strict=True)):
        drawn, seed = draws.max_tokens(), draws.sampling_seed()
        limit = moment.output_tokens or prompt.max_tokens or drawn
        if scenario.output.temperature > 0:
            body = body_of(scenario, prompt, limit, seed)
        else:
            body = shared.setdefault((prompt.id, limit), body_of(scenario, prompt, limit, seed))
        measured = moment.offset_s >= scenario.warmup
        yield Planned(index, moment.offset_s, prompt.id, body, measured, draws.disconnect_after())


def planned_by(
    scenario: Scenario, closed: Closed, user: int, indexes: Iterable[int], prompts: Iterator[Prompt]
) -> Iterator[Planned]:
    """What ``user`` of a closed loop asks in turn; ``indexes`` numbers it."""
    draws = _Draws(scenario, user)
    thinking = stream_of(scenario.seed, Purpose.THINK, user)
    is_first = True
    for index in indexes:
        prompt = next(prompts)
        drawn, seed = draws.max_tokens(), draws.sampling_seed()
        # A client that was there before the run is somewhere in its pause when it begins.
        unit = thinking.random() if is_first else 1.0
        if closed.think_distribution == "exponential":
            unit = thinking.standard_exponential()
        think_s = round(closed.think * unit, 6)
        body = body_of(scenario, prompt, prompt.max_tokens or drawn, seed)
        leaves = draws.disconnect_after()
        yield Planned(index, None, prompt.id, body, disconnect_after=leaves, think_s=think_s)
        is_first = False


__all__ = ["Planned", "planned_at", "planned_by"]
