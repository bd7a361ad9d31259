"""The folder of a profile: that of its load, and what is concluded from it beside it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.loadtest.folder import Folder
from slipstream.loadtest.sample import Sample
from slipstream.profiling.timeline.model import Request, Timing


class NoProfileThere(InputError):
    """The folder holds no profile, or one whose files cannot be read."""


@dataclass(frozen=True)
class ProfileFolder(Folder):
    """Plan, samples and telemetry are the load's; the rest is the profile's."""

    @property
    def timeline(self) -> Path:
        return self.root / "timeline.jsonl"

    @property
    def engine(self) -> Path:
        return self.root / "engine.jsonl"

    @property
    def profile(self) -> Path:
        return self.root / "profile.json"

    @property
    def trace(self) -> Path:
        return self.root / "trace.json"


def request_of(sample: Sample, start_s: float) -> Request:
    """A sample of a run that began at ``start_s`` (``time.perf_counter``), as a request of a timeline."""
    return Request(
        index=sample.index,
        outcome=sample.outcome,
        measured=sample.measured,
        sent_ns=round((start_s + sample.sent_s) * 1e9),
        first_ns=None if sample.first_s is None else round((start_s + sample.first_s) * 1e9),
        end_ns=round((start_s + sample.end_s) * 1e9),
        prompt_tokens=sample.prompt_tokens,
        output_tokens=sample.output_tokens,
        timing=None if sample.timing is None else Timing.of(sample.timing),
    )


def write_timeline(path: Path, samples: Sequence[Sample], start_s: float) -> None:
    """One line of JSON a request, in the order in which they ended."""
    with path.open("w", encoding="utf-8") as lines:
        for sample in samples:
            fields = asdict(request_of(sample, start_s)) | {"timing": sample.timing}
            lines.write(json.dumps(fields, separators=(",", ":")) + "\n")


def read_timeline(path: Path) -> list[Request]:
    """What `write_timeline` wrote.

    Raises:
        NoProfileThere: there is none, or a line of it is none.
    """
    return list(_read_timeline(path))


def _read_timeline(path: Path) -> Iterator[Request]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NoProfileThere(f"{path} cannot be read: {error}", _HINT) from error
    for number, line in enumerate(text.splitlines(), 1):
        try:
            fields: dict[str, Any] = json.loads(line)
            timing = fields.pop("timing")
            yield Request(**fields, timing=None if timing is None else Timing.of(timing))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise NoProfileThere(f"{path}:{number} is no request of a profile: {error!r}", _HINT) from error


_HINT = "give a folder that slipstream profile run wrote"

__all__ = ["NoProfileThere", "ProfileFolder", "read_timeline", "request_of", "write_timeline"]
