"""Effects with their intervals, one row each (a forest plot), as HTML rows around SVG that takes any width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

_WIDTH, _HEIGHT = 1000.0, 22.0


@dataclass(frozen=True)
class Interval:
    """One effect.

    Attributes:
        name: what differs.
        value: the effect, in units that all rows share; None: none is known.
        low, high: of its interval, and ``least`` and ``most`` of a wider one around it; None: none.
        tone: by what it means.
        text: what stands at its end; ``title`` is told when it is pointed at.
        bounds: where the limits lie.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    least: float | None
    most: float | None
    tone: Literal["good", "bad", "open", "void", "plain"]
    text: str
    title: str
    bounds: Sequence[float]


@dataclass(frozen=True)
class Intervals:
    """Rows on one axis that reaches ``reach`` to both sides of no effect; what lies outside ends at the edge.

    Attributes:
        label: what they show, in a sentence.
        ends: what it means to be far to the left, at the middle and far to the right.
    """

    label: str
    rows: tuple[Interval, ...]
    reach: float
    ends: tuple[str, str, str]

    def html(self) -> Markup:
        """One row per effect, and what the axis means below."""
        rows = [self._row(one) for one in self.rows]
        axis = Markup(
            '<div class="interval-row interval-axis"><div></div>'
            "<div><span>{}</span><span>{}</span><span>{}</span></div><div></div></div>"
        ).format(*self.ends)
        return Markup('<div class="bars" role="group" aria-label="{}">{}{}</div>').format(
            self.label, Markup("").join(rows), axis
        )

    def legend(self) -> Markup:
        """Nothing: the rows are named, and the note says what is drawn."""
        return Markup("")

    def _row(self, one: Interval) -> Markup:
        return Markup(
            '<div class="interval-row {}"><div class="interval-name">{}</div>'
            '<svg class="interval" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" role="img" aria-label="{}">'
            '<title>{}</title>{}</svg><div class="interval-text">{}</div></div>'
        ).format(one.tone, one.name, _WIDTH, _HEIGHT, f"{one.name}: {one.title}", one.title, self._marks(one), one.text)

    def _marks(self, one: Interval) -> Markup:
        middle = _HEIGHT / 2
        ways: list[tuple[str, str]] = []
        for bound in one.bounds:
            edge = self._at(self.reach if bound > 0 else -self.reach)
            ways.append(("beyond", f"M{self._at(bound):.1f} 0H{edge:.1f}V{_HEIGHT:g}H{self._at(bound):.1f}Z"))
            ways.append(("bound", f"M{self._at(bound):.1f} 0V{_HEIGHT:g}"))
        ways.append(("zero", f"M{self._at(0):.1f} 0V{_HEIGHT:g}"))
        for kind, low, high in (("thin", one.least, one.most), ("thick", one.low, one.high)):
            if low is not None and high is not None:
                ways.append((kind, f"M{self._at(low):.1f} {middle:g}H{self._at(high):.1f}"))
        if one.value is not None:
            ways.append(("middle", f"M{self._at(one.value):.1f} {middle:g}h0"))
        return Markup("").join(Markup('<path class="{}" d="{}"/>').format(*way) for way in ways)

    def _at(self, value: float) -> float:
        inside = min(max(value, -self.reach), self.reach)
        return (inside / self.reach + 1) / 2 * _WIDTH


__all__ = ["Interval", "Intervals"]
