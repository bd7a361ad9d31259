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
    over, _, under = text.strip().partition("/")
    top, bottom = _part(over), _part(under) if under else Unit("", 1.0)
    if top is None or bottom is None:
        return Unit(text.strip(), 1.0)
    return Unit(f"{top.base}/{bottom.base}", top.factor / bottom.factor) if under else top


def _part(text: str) -> Unit | None:
    found = _TOKEN.match(text.strip())
    if found is None:
        return None
    prefix, name = found.groups()
    return Unit(_NAMES[name.lower()], _PREFIXES[prefix]) if prefix in _PREFIXES else None


__all__ = ["Unit", "unit_of"]
