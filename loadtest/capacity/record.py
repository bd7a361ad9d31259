"""What is kept of a search: ``capacity.json`` beside a folder for each point, which is a load test's like any other."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.loadtest.capacity.points import Sizing
from slipstream.loadtest.capacity.stopping import Reason
from slipstream.loadtest.folder import Folder
from slipstream.loadtest.scenario import Scenario

FORMAT = 1


class NoSearchThere(InputError):
    """The folder holds no capacity search, or one that cannot be read."""


@dataclass(frozen=True)
class Conditions:
    """What decides a search, and what was typed to begin it.

    Attributes:
        precision: how far apart held and not held may be in the end, as a share of the held rate.
        max_time_s: no point begins that would end later than that after the search began.
    """

    scenario: Scenario
    url: str
    tokenizer: Path | None
    processes: int
    precision: float
    size: Sizing
    max_time_s: float
    command: str
    started_at: str


@dataclass(frozen=True)
class Begun:
    """A point that was begun; ``stopped`` says why the search ended it before its last request."""

    number: int
    rate: float
    folder: str
    stopped: Reason | None = None


@dataclass(frozen=True)
class CapacityFolder:
    """Paths below ``root``, and what is in them."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "capacity.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def point(self, begun: Begun) -> Folder:
        return Folder(self.root / begun.folder)

    def write(
        self, given: Conditions, begun: Iterable[Begun], ended: str = "", outcome: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a search as far as it is.

        Args:
            ended: why it ended before it found what it looked for; empty while it goes on, and where it found it.
            outcome: what it came to so far, for other programs; nothing here reads it again.
        """
        content = {
            "format": FORMAT,
            **asdict(given),
            "scenario": given.scenario.model_dump(mode="json"),
            "tokenizer": None if given.tokenizer is None else str(given.tokenizer),
            "begun": [asdict(one) for one in begun],
            "ended": ended,
            "outcome": outcome,
        }
        aside = self.record.with_suffix(".aside")
        aside.write_text(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        aside.replace(self.record)

    def read(self) -> tuple[Conditions, list[Begun], str]:
        """What `write` kept: conditions, points that were begun, why it ended.

        Raises:
            NoSearchThere: there is nothing of the kind.
        """
        try:
            content = json.loads(self.record.read_bytes())
            if content.pop("format") != FORMAT:
                raise ValueError("it was written by another version")
            begun = [Begun(**one) for one in content.pop("begun")]
            ended, _ = content.pop("ended"), content.pop("outcome")
            fields = content | {
                "scenario": Scenario.model_validate(content["scenario"]),
                "tokenizer": None if content["tokenizer"] is None else Path(content["tokenizer"]),
                "size": Sizing(**content["size"]),
            }
            return Conditions(**fields), begun, ended
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise NoSearchThere(
                f"{self.root} holds no capacity search: {error}",
                "give a folder that slipstream loadtest --find-capacity wrote",
            ) from error


__all__ = ["Begun", "CapacityFolder", "Conditions", "NoSearchThere"]
