"""What the load generator saw while a capture was on: the requests that began and succeeded in it, by their ids."""

import json
from dataclasses import dataclass
from pathlib import Path

from slipstream.loadtest.folder import Folder, Moments
from slipstream.loadtest.sample import read_samples
from slipstream.profiling.spans import payload


@dataclass(frozen=True)
class Answered:
    """Attributes:
    count: how many there were.
    payloads: what their ranges carry; empty where the server told no ids.
    """

    count: int
    payloads: frozenset[int] = frozenset()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"count": self.count, "payloads": sorted(self.payloads)}) + "\n", encoding="utf-8")


def read_answered(path: Path) -> Answered | None:
    """What `Answered.write` wrote; None where it is not there."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Answered(int(said["count"]), frozenset(map(int, said["payloads"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answered_in(folder: Folder, moments: Moments, opened_s: float, closed_s: float) -> Answered:
    """Those of a load that began after one moment and ended before another (``time.perf_counter``)."""
    found = [
        sample
        for sample in (read_samples(folder.samples) if folder.samples.is_file() else ())
        if sample.outcome == "ok"
        and sample.sent_s >= opened_s - moments.monotonic
        and sample.end_s <= closed_s - moments.monotonic
    ]
    named = [str(sample.timing.get("request_id") or "") for sample in found if sample.timing]
    return Answered(len(found), frozenset(payload(name) for name in named if name))


__all__ = ["Answered", "answered_in", "read_answered"]
