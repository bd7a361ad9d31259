"""The runs of a comparison: interleaved, so that what drifts (heat, other work) meets both sides alike.

Rounds go A B, B A, A B, ...: in two rounds each side is first once and second once (ABBA). Both runs of a round draw
their schedule from one seed, so they see the same questions at the same moments; each round has another one.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipstream import EnvironmentFault
from slipstream.loadtest.comparison.golden import ask_golden
from slipstream.loadtest.comparison.measures import values_of
from slipstream.loadtest.comparison.quality import judge_answers, read_keys
from slipstream.loadtest.comparison.record import Record, RunRecord
from slipstream.loadtest.comparison.serving import ask_once, served
from slipstream.loadtest.comparison.sides import Letter, same_server
from slipstream.loadtest.folder import Folder
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import Watch, conclude, generate
from slipstream.loadtest.scenario import Closed, Ramp, Replay, Scenario
from slipstream.loadtest.schedule.plan import Plan
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.settings import Settings

_ATTEMPTS = 3  # of a run that is void; a machine that is this busy will not give a fourth one


class RunVoid(EnvironmentFault):
    """A run was void each time that it was tried: its numbers are not those of the server."""


@dataclass(frozen=True)
class Turn:
    """One run to come."""

    round: int
    letter: Letter
    seed: int


Shown = Callable[[Turn], AbstractContextManager[Watch]]
Told = Callable[[Record, RunRecord], None]


def turns(rounds: int, seed: int, *, own_seeds: bool) -> list[Turn]:
    """All runs in their order.

    Args:
        seed: of the first round.
        own_seeds: whether the runs of a round draw different schedules, for a server that caches what it was asked.
    """
    found = []
    for number in range(1, rounds + 1):
        order: Sequence[Letter] = ("A", "B") if number % 2 else ("B", "A")
        for place, letter in enumerate(order):
            drawn = seed + (2 * (number - 1) + place if own_seeds else number - 1)
            found.append(Turn(number, letter, drawn))
    return found


def left(record: Record) -> list[Turn]:
    """The runs that are not complete yet, in their order."""
    own = same_server(record.a, record.b)
    return [
        turn
        for turn in turns(record.rounds, record.scenario.seed, own_seeds=own)
        if record.run(turn.round, turn.letter) is None
    ]


def run_all(record: Record, settings: Settings, shown: Shown, told: Told) -> Record:
    """Do what is left, and keep each run as it ends.

    Ctrl-C ends it early: what ran stays, and a run that was stopped does not count.

    Raises:
        RunVoid: see there; what ran before is kept.
        ServerFailed, ServerAway, GeneratorFailed: likewise.
    """
    for turn in left(record):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                done = _run_once(record, turn, settings, shown)
            except KeyboardInterrupt:
                return record
            record = record.with_run(done)
            record.write()
            told(record, done)
            if done.status == "stopped":
                return record
            if done.status == "complete":
                break
            if attempt == _ATTEMPTS:
                raise RunVoid(
                    f"round {turn.round}, {turn.letter}: the run was void {_ATTEMPTS} times: {done.reason}",
                    f"mend the cause, then go on: slipstream compare --from {record.root} --rounds {record.rounds}",
                )
    return record


def _run_once(record: Record, turn: Turn, settings: Settings, shown: Shown) -> RunRecord:
    started, began = datetime.now(UTC).astimezone().isoformat(timespec="seconds"), time.monotonic()
    scenario = record.scenario.model_copy(update={"seed": turn.seed})
    folder, was_stopped, answers = _load(record, scenario, turn, settings, shown)
    result = conclude(folder)
    quality = judge_answers(read_keys(record.golden), answers) if answers else None
    golden = {"golden_pass_rate": quality.citing, "golden_text_rate": quality.by_text} if quality else {}
    run, _, _ = folder.read_run()
    void = "; ".join(check.message for check in result.void_because)
    return RunRecord(
        round=turn.round,
        letter=turn.letter,
        seed=turn.seed,
        folder=folder.root.name,
        status="stopped" if was_stopped else "void" if void else "complete",
        reason="it was stopped" if was_stopped else void,
        values=values_of(scenario, result) | golden,
        questions=quality.questions if quality else {},
        bundle_digest=run.bundle_digest,
        index_digest=run.index_digest,
        started_at=started,
        took_s=round(time.monotonic() - began, 1),
    )


def _load(
    record: Record, scenario: Scenario, turn: Turn, settings: Settings, shown: Shown
) -> tuple[Folder, bool, list[dict[str, Any]]]:
    """Serve, load, ask the golden questions; whether it was stopped, and what was answered to them."""
    root, side = _free(record.root, turn), record.side(turn.letter)
    tokenizer = Path(record.tokenizer) if record.tokenizer else side.tokenizer
    with served(side, settings, root, needs_collection=scenario.model == "slipstream") as url:
        folder = prepare(scenario, url, settings, tokenizer, root)
        _, found, _ = folder.read_run()
        plan = Plan.read(folder.plan, None if found is None else ServerTokenizer(found))
        ask_once(url, scenario, plan.arrivals[0] if plan.is_open else next(plan.user(0)))
        with shown(turn) as watch:
            moments = generate(folder, url, watch)
        if moments.was_stopped or not record.golden:
            return folder, moments.was_stopped, []
        return folder, False, ask_golden(url, scenario, record.golden, root / "golden.jsonl")


def _free(root: Path, turn: Turn) -> Path:
    """The folder of a run; an earlier attempt keeps its own."""
    name = f"round-{turn.round:02}-{turn.letter}"
    for number in range(1, 1000):
        path = root / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
    raise EnvironmentFault(f"{root} is full of attempts at {name}", "begin a new comparison")


def estimated_s(scenario: Scenario) -> float | None:
    """How long one run sends, in seconds; None where that is not known before it ran."""
    known = [scenario.warmup + scenario.duration] if scenario.duration is not None else []
    if scenario.requests is not None and not isinstance(scenario.arrivals, Closed | Ramp | Replay):
        known.append(scenario.requests / scenario.arrivals.rate)
    return min(known, default=None)


__all__ = ["RunVoid", "Shown", "Told", "Turn", "estimated_s", "left", "run_all", "turns"]
