"""``comparison.json``: everything that is known of a comparison, rewritten after each run, so that none is lost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from slipstream import InputError
from slipstream.loadtest.comparison.measures import Values
from slipstream.loadtest.comparison.sides import Letter, Side
from slipstream.loadtest.comparison.verdict import Outcome
from slipstream.loadtest.results.plain import as_plain
from slipstream.loadtest.scenario import Scenario

FORMAT = 1
Status = Literal["complete", "void", "stopped"]


class NoComparisonThere(InputError):
    """The folder holds no comparison, or one that cannot be read."""


@dataclass(frozen=True)
class RunRecord:
    """One run of one side.

    Attributes:
        round: from 1 on.
        folder: its name below the comparison's; a load test's run lies there.
        reason: why it does not count; empty for a complete one.
        questions: share of the answers to each golden question that passed.
        bundle_digest, index_digest: what the server said that it answered from.
        took_s: with the server's start.
    """

    round: int
    letter: Letter
    seed: int
    folder: str
    status: Status
    reason: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)
    questions: Mapping[str, float] = field(default_factory=dict)
    bundle_digest: str = ""
    index_digest: str = ""
    started_at: str = ""
    took_s: float = 0.0


@dataclass(frozen=True)
class Record:
    """A comparison as far as it has come.

    Attributes:
        scenario: as it was asked for; each run has a seed of its own.
        rounds: how many there are to be.
        margin: see `verdict.judge_pairs`.
        golden: the golden set that is asked after each run; empty for none.
        tokenizer: path of the tokenizer of both; empty: each has its own.
        host: the machine that sends the load.
        notes: what a reader has to know before the numbers.
        commands: what was typed, one for each time that it was begun or taken up again.
    """

    root: Path
    a: Side
    b: Side
    scenario: Scenario
    rounds: int
    margin: float
    golden: str
    tokenizer: str
    started_at: str
    version: str
    host: Mapping[str, str]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    runs: tuple[RunRecord, ...] = ()

    @property
    def json(self) -> Path:
        return self.root / "comparison.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def side(self, letter: Letter) -> Side:
        return self.a if letter == "A" else self.b

    def run(self, number: int, letter: Letter) -> RunRecord | None:
        """The complete run of that round and side."""
        fitting = (one for one in self.runs if (one.round, one.letter, one.status) == (number, letter, "complete"))
        return next(fitting, None)

    def pairs(self) -> list[tuple[RunRecord, RunRecord]]:
        """The rounds of which both runs are complete, in order."""
        found = ((self.run(number, "A"), self.run(number, "B")) for number in range(1, self.rounds + 1))
        return [(a, b) for a, b in found if a is not None and b is not None]

    def values(self) -> list[tuple[Values, Values]]:
        """What the runs of each complete round came to."""
        return [(a.values, b.values) for a, b in self.pairs()]

    def with_run(self, run: RunRecord) -> "Record":
        return replace(self, runs=(*self.runs, run))

    def write(self, outcome: Outcome | None = None) -> None:
        """Replace ``comparison.json`` at once."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "root"}
        content = {"format": FORMAT, **as_plain(fields)}
        if outcome is not None:
            content["outcome"] = outcome_as_dict(outcome)
        aside = self.json.with_suffix(".aside")
        aside.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        aside.replace(self.json)

    @classmethod
    def read(cls, root: Path) -> "Record":
        """What `write` kept.

        Raises:
            NoComparisonThere: see there.
        """
        try:
            content: dict[str, Any] = json.loads((root / "comparison.json").read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT}")
            return cls(
                root=root,
                a=Side(**content["a"]),
                b=Side(**content["b"]),
                scenario=Scenario.model_validate(content["scenario"]),
                rounds=content["rounds"],
                margin=content["margin"],
                golden=content["golden"],
                tokenizer=content["tokenizer"],
                started_at=content["started_at"],
                version=content["version"],
                host=content["host"],
                notes=tuple(content["notes"]),
                commands=tuple(content["commands"]),
                runs=tuple(RunRecord(**one) for one in content["runs"]),
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise NoComparisonThere(
                f"{root} holds no comparison: {error}", "give a folder that slipstream compare wrote"
            ) from error


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """For JSON: with the exit code and how many more rounds would settle what is open."""
    plain: dict[str, Any] = as_plain(outcome)
    return {**plain, "exit_code": outcome.exit_code, "more_rounds": outcome.more_rounds}


__all__ = ["NoComparisonThere", "Record", "RunRecord", "Status", "outcome_as_dict"]
