"""From numbers to pixels: linear and logarithmic scales, ticks at round numbers, numbers as people read them."""

from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """``low``..``high`` onto ``start``..``end`` pixels; with ``log`` both bounds are above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Floats) -> Floats:
        """Pixels [n] of ``values`` [n]; what lies outside is put on the edge, NaN stays NaN."""
        inside = np.clip(np.asarray(values, np.float64), self.low, self.high)
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        share = ((np.log10(inside) if self.log else inside) - low) / (high - low)
        pixels: Floats = self.start + share * (self.end - self.start)
        return pixels

    def at(self, value: float) -> float:
        """The pixel of one value."""
        return float(self(np.array([value]))[0])


def nice_step(span: float, most: int) -> float:
    """The least of 1, 2, 5 times a power of ten that divides ``span`` into at most ``most`` parts."""
    rough = span / most
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def bounds(values: Floats, *, log: bool = False, least: float | None = None) -> tuple[float, float]:
    """A range that holds all finite values, never an empty one.

    Args:
        least: what a linear range begins with, however high the values are.
    """
    known = values[np.isfinite(values) & (values > 0)] if log else values[np.isfinite(values)]
    if not len(known):
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if log:
        return (low / 1.15, high * 1.15)
    low = low if least is None else least
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def ticks(low: float, high: float, most: int, *, log: bool = False) -> list[float]:
    """Round numbers in ``low``..``high``, about ``most`` of them at most."""
    if log:
        return _log_ticks(low, high, most)
    step = nice_step(high - low, most)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for steps in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= most:
            break
    if len(found) > most:
        found = found[:: ceil(len(found) / most)]
    return found if len(found) > 1 else ticks(low, high, most)


def number(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits and commas for thousands; an en dash where there is none."""
    if value is None or not isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(abs(value))))
    if decimals == 0:
        return f"{value:,.0f}"
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if abs(value) < 1 else text


def percent(share: float) -> str:
    """A share as it is claimed: ``95%``, not ``95.0%``."""
    return f"{round(share * 100, 6):g}%"


def tick_text(value: float) -> str:
    """A tick's number, as short as it can be said."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if letter == "k" else size
            return f"{value / unit:g}{letter}"
    return f"{value:,.10g}"


__all__ = ["Floats", "Integers", "Scale", "bounds", "nice_step", "number", "percent", "tick_text", "ticks"]
