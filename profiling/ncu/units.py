"""The units of Nsight Compute's values, brought to their base: bytes, seconds, cycles, and rates of them.

The tool scales by powers of 1,000 (its manual, "Metrics and Units"), and writes ``usecond`` or ``us``,
``Gbyte/second`` or ``Gbyte/s``, ``cycle/nsecond`` or ``Ghz``, as its version and ``--print-units`` have it.
"""

import re
from typing import NamedTuple

_PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_NAMES = {
    "byte": "byte", "b": "byte", "second": "second", "s": "second", "cycle": "cycle", "hz": "cycle/second",
    "inst": "inst", "op": "op", "%": "%",
}  # fmt: skip
_TOKEN = re.compile(r"^([numKkMGTP]?)(byte|b|second|s|cycle|hz|inst|op|%)s?$", re.IGNORECASE)


class Unit(NamedTuple):
    """``value × factor`` is in ``base``."""

    base: str
    factor: float


def unit_of(text: str) -> Unit:
    """The unit that ``text`` names; one that is not known is its own base."""
    parts = [_part(part) for part in text.strip().split("/")]
    if not text.strip() or None in parts or len(parts) > 2:
        return Unit(text.strip(), 1.0)
    over, under = parts[0], parts[1] if len(parts) == 2 else None
    assert over is not None  # noqa: S101  # seen above
    if under is None:
        return over
    return Unit(f"{over.base}/{under.base}", over.factor / under.factor)


def _part(text: str) -> Unit | None:
    found = _TOKEN.match(text.strip())
    if found is None:
        return None
    prefix, name = found.groups()
    if prefix.lower() == "m" and name.lower() in ("second", "s"):
        prefix = "m"
    factor = _PREFIXES.get(prefix, 0.0)
    return Unit(_NAMES[name.lower()], factor) if factor else None


__all__ = ["Unit", "unit_of"]
