"""What is known of a bundle on this machine, kept beside a run (``limit.json``), so that it can be concluded later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from slipstream.profiling.limit.bundle import find_folder, read_work
from slipstream.profiling.limit.kept import measure, read_kept
from slipstream.profiling.limit.roof import Roof
from slipstream.profiling.limit.work import LimitUnknown, Work


@dataclass(frozen=True, slots=True)
class Limit:
    """The work of a bundle's engine, of ``slots`` sequences at once at most, and the roof of the machine it runs on."""

    bundle_id: str
    slots: int
    work: Work
    roof: Roof

    def write(self, path: Path) -> None:
        content = asdict(self)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What `write` wrote; None where there is nothing of the kind."""
        try:
            content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            work, roof = Work(**content["work"]), Roof.from_plain(content["roof"])
            return cls(str(content["bundle_id"]), int(content["slots"]), work, roof)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def limit_here(home: Path, bundle_id: str) -> Limit | None:
    """Of the bundle with ``bundle_id`` below ``home``, on this machine.

    The first time a host is asked for, it is measured, which takes a few seconds on every core: ask before a load
    begins, never while one runs. None where the bundle is not here or cannot be counted, and where others disturbed the
    measurement.
    """
    try:
        found = read_work(find_folder(home / "bundles", bundle_id))
    except LimitUnknown:
        return None
    roof = found.roof or _roof(home)
    return None if roof is None else Limit(found.bundle_id, found.slots, found.work, roof)


@cache
def _roof(home: Path) -> Roof | None:
    """One attempt in a process: a machine that is busy now will be at the next point of a search, too."""
    measured = read_kept(home) or measure(home)
    return None if measured.is_disturbed else measured.roof


__all__ = ["Limit", "limit_here"]
