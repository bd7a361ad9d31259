"""What was measured of this host, kept in a file of its own: a host that changed, or another one, is measured anew.

A measurement that others disturbed is not kept, and no bound is made of it unasked: it would be one that a quiet
machine beats.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slipstream.profiling.limit.probe import cpu_features, cpu_name, probe
from slipstream.profiling.limit.roof import Roof

DISTURBED = 0.1
"""Share of this process's cores that others may use while it measures."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A roof, when it was measured, and which share of the cores others had meanwhile (None: not told)."""

    roof: Roof
    at: str
    others_share: float | None = None

    @property
    def is_disturbed(self) -> bool:
        return self.others_share is not None and self.others_share > DISTURBED


def fingerprint() -> dict[str, Any]:
    """What makes this host another one: its name, CPU, cores, memory, and the libraries that multiply."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        memory = 0
    return {
        "node": platform.node(),
        "cpu": cpu_name(),
        "isa": sorted(cpu_features()),
        "system": f"{platform.system()} {platform.machine()}",
        "memory_gib": round(memory / 2**30),
        "libraries": {name: _installed(name) for name in ("numpy", "openvino")},
    }


def kept_file(home: Path) -> Path:
    """Where this host's measurement is kept below ``home``."""
    digest = sha256(json.dumps(fingerprint(), sort_keys=True).encode()).hexdigest()[:16]
    return home / "cache" / f"limit-{digest}.json"


def read_kept(home: Path) -> Measured | None:
    """This host's measurement; None where there is none, or what is there is none or another host's."""
    try:
        content = json.loads(kept_file(home).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or content["fingerprint"] != fingerprint():
            return None
        return Measured(Roof.from_plain(content["roof"]), str(content["at"]), content["others_share"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def measure(home: Path, told: Callable[[str], None] = lambda _: None, prober: Callable[..., Roof] = probe) -> Measured:
    """Measure this host, and keep it unless others disturbed it."""
    before = _busy()
    own = time.process_time()
    roof = prober(told=told)
    others = _share_of_others(before, _busy(), time.process_time() - own)
    measured = Measured(roof, time.strftime("%Y-%m-%dT%H:%M:%S%z"), others)
    if not measured.is_disturbed:
        _keep(home, measured)
    return measured


def _keep(home: Path, measured: Measured) -> None:
    path = kept_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": _FORMAT,
        "fingerprint": fingerprint(),
        "at": measured.at,
        "others_share": measured.others_share,
        "roof": measured.roof.to_plain(),
    }
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def _busy() -> tuple[float, float] | None:
    """Seconds that the cores of this process have been busy, and in all, since boot; None where no kernel tells.

    What a hypervisor gave to others (steal) is busy.
    """
    try:
        allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        rows = [line.split() for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines()]
        ticks = [[int(value) for value in row[1:9]] for row in rows if row and row[0] in allowed]
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    total = sum(map(sum, ticks)) / per_second
    return total - sum(row[3] + row[4] for row in ticks) / per_second, total  # idle, and waiting for a disk


def _share_of_others(
    before: tuple[float, float] | None, after: tuple[float, float] | None, own_s: float
) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return max(0.0, after[0] - before[0] - own_s) / (after[1] - before[1])


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


__all__ = ["DISTURBED", "Measured", "fingerprint", "kept_file", "measure", "read_kept"]
