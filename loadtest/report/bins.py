"""A run in equal parts of its time, which all its charts over time share."""

from dataclasses import dataclass

import numpy as np

from slipstream.loadtest.report.drawing.charts import Axis, Mark, Span
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.window import Window
from slipstream.loadtest.statistics.order import Floats, Integers

_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MOST_BINS, _IN_A_BIN = 100, 12


@dataclass(frozen=True)
class Bins:
    """Equal parts of the run, ``edges_s`` [n + 1]; charts say minutes or hours where seconds would be many."""

    edges_s: Floats

    @classmethod
    def of(cls, columns: Columns) -> "Bins":
        """As fine as about a dozen requests in each part allow."""
        ends = columns.end_s[np.isfinite(columns.end_s)]
        length = max(float(ends.max()), 1.0) if len(ends) else 1.0
        wanted = max(length / _MOST_BINS, length * _IN_A_BIN / max(len(columns), 1))
        width = next((width for width in _WIDTHS_S if width >= wanted), _WIDTHS_S[-1])
        count = max(1, min(round(length / width), 10 * _MOST_BINS))
        return cls(np.append(np.arange(count, dtype=np.float64) * width, max(length, float(width * (count - 1) + 1))))

    def __len__(self) -> int:
        return len(self.edges_s) - 1

    @property
    def widths_s(self) -> Floats:
        """All alike but the last, which ends with the run and so may be half as wide or one and a half times."""
        return np.diff(self.edges_s)

    @property
    def unit(self) -> tuple[float, str]:
        """Seconds in the unit of the time axis, and its name."""
        length = self.edges_s[-1]
        return (1.0, "s") if length <= 600 else (60.0, "min") if length <= 4 * 3600 else (3600.0, "h")

    @property
    def axis(self) -> Axis:
        return Axis(f"time since the start, {self.unit[1]}")

    @property
    def edges(self) -> Floats:
        """In the unit of the axis."""
        return self.edges_s / self.unit[0]

    @property
    def middles(self) -> Floats:
        return (self.edges[:-1] + self.edges[1:]) / 2

    def places(self, moments_s: Floats) -> Integers:
        """Which bin each moment lies in [n]; ``len(self)`` for those in none."""
        known = (moments_s >= 0) & (moments_s <= self.edges_s[-1])
        places = np.searchsorted(self.edges_s[1:-1], np.where(known, moments_s, 0.0), side="right")
        return np.where(known, places, len(self)).astype(np.int64)

    def counts(self, moments_s: Floats, weights: Floats | None = None) -> Floats:
        """How many, or how much, lies in each bin."""
        found = np.bincount(self.places(moments_s), weights=weights, minlength=len(self) + 1)[: len(self)]
        return found.astype(np.float64)

    def names(self) -> list[str]:
        return [f"{start:.4g} to {end:.4g} s" for start, end in zip(self.edges_s[:-1], self.edges_s[1:], strict=True)]

    def warmup(self, window: Window) -> list[Mark]:
        end = min(window.start_s, float(self.edges_s[-1])) / self.unit[0]
        return [Span(0.0, end, "warm-up: sent and not measured")] if end > 0 else []


__all__ = ["Bins"]
