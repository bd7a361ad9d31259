"""Charts as SVG, drawn here rather than by a plotting library.

What a report needs is a handful of marks; in return one small file carries every chart (Plotly alone is 4.5 MB of
script), nothing runs when it is opened, and the charts follow the page into dark mode, print and small screens: colours
are classes of the page's style sheet. Each series has a dash or a shape beside its colour. Texts are escaped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from markupsafe import Markup

from slipstream.loadtest.report.drawing.scales import Floats, Scale, bounds, tick_text, ticks

Shape = Literal["dot", "cross", "triangle", "diamond"]
# What a pen draws from a point's place; a dot is a line of no length with round ends.
_SHAPES: dict[Shape, str] = {
    "dot": "h0",
    "cross": "m-3-3l6 6m0-6l-6 6",
    "triangle": "m0-4l4 7h-8z",
    "diamond": "m0-4l4 4l-4 4l-4-4z",
}
_CHARACTER = 6.6  # pixels, at the font size of `chart` in the style sheet


@dataclass(frozen=True)
class Axis:
    """``label`` names quantity and unit. A linear axis begins at ``least`` (None: at the data); ``most`` caps it."""

    label: str
    log: bool = False
    least: float | None = 0.0
    most: float | None = None
    text: Callable[[float], str] = tick_text


@dataclass(frozen=True)
class Line:
    """Through (x, y) [n]; NaN interrupts it. ``tone`` (1..6) gives colour and dash."""

    name: str
    x: Floats
    y: Floats
    tone: int = 1
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """Between ``low`` and ``high`` [n]; NaN interrupts it."""

    name: str
    x: Floats
    low: Floats
    high: Floats
    tone: int = 1


@dataclass(frozen=True)
class Points:
    """At (x, y) [n]; with ``titles`` [n] each tells about itself when pointed at."""

    name: str
    x: Floats
    y: Floats
    tone: int = 1
    shape: Shape = "dot"
    titles: Sequence[str] = ()
    faint: bool = False


@dataclass(frozen=True)
class Rule:
    """A reference across the chart at a value of one axis; its label stands at the axis' ``side`` of the chart."""

    axis: Literal["x", "y"]
    value: float
    label: str
    side: Literal["start", "end"] = "end"


@dataclass(frozen=True)
class Span:
    """A shaded part of the x axis."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Hover:
    """Columns between the edges [n + 1] that tell ``titles`` [n] when pointed at."""

    edges: Floats
    titles: Sequence[str]


Mark: TypeAlias = Line | Band | Points | Rule | Span | Hover


@dataclass(frozen=True)
class Chart:
    """``label`` says in a sentence what it shows, for those who hear it."""

    label: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...] = field(default=())

    def svg(self, width: int, height: int) -> Markup:
        """The chart; it scales with its box."""
        return Markup("").join(_Drawing(self, width, height).parts())

    def legend(self) -> Markup:
        """What its named series look like, as HTML; nothing where there is only one."""
        series = [mark for mark in self.marks if isinstance(mark, Line | Band | Points) and mark.name]
        entry = Markup('<li><svg class="key" viewBox="0 0 24 12" aria-hidden="true">{}</svg>{}</li>')
        entries = [entry.format(_key(mark), mark.name) for mark in series] if len(series) > 1 else []
        return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def _key(mark: Line | Band | Points) -> Markup:
    if isinstance(mark, Line):
        return _path("M0 6H24", _line_class(mark))
    if isinstance(mark, Band):
        return _path("M0 1H24V11H0Z", f"band tone{mark.tone}")
    return _path(f"M12 6{_SHAPES[mark.shape]}", _point_class(mark))


class _Drawing:
    def __init__(self, chart: Chart, width: int, height: int) -> None:
        self.chart, self.width, self.height = chart, width, height
        x_low, x_high = self._range("x", chart.x)
        y_low, y_high = self._range("y", chart.y)
        self.y_ticks = ticks(y_low, y_high, max(3, height // 42), log=chart.y.log)
        self.left = 10 + _CHARACTER * max((len(chart.y.text(tick)) for tick in self.y_ticks), default=1)
        self.right, self.top, self.bottom = width - 10.0, 22.0, height - 34.0
        self.x_ticks = ticks(x_low, x_high, max(3, int(self.right - self.left) // 64), log=chart.x.log)
        self.x = Scale(x_low, x_high, self.left, self.right, chart.x.log)
        self.y = Scale(y_low, y_high, self.bottom, self.top, chart.y.log)

    def _range(self, name: Literal["x", "y"], axis: Axis) -> tuple[float, float]:
        found: list[Floats] = [np.zeros(0)]
        for mark in self.chart.marks:
            if isinstance(mark, Line | Points):
                found.append(mark.x if name == "x" else mark.y)
            elif isinstance(mark, Band):
                found.extend([mark.x] if name == "x" else [mark.low, mark.high])
            elif isinstance(mark, Rule) and mark.axis == name:
                found.append(np.array([mark.value * (1.05 if not axis.log else 1.0)]))
            elif isinstance(mark, Span) and name == "x":
                found.append(np.array([mark.start, mark.end]))
        low, high = bounds(np.concatenate(found), log=axis.log, least=axis.least)
        if axis.most is not None:
            return low, axis.most
        return (low, high) if axis.log or name == "x" else (low, high + (high - low) * 0.04)

    def parts(self) -> Iterator[Markup]:
        yield Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">').format(
            self.chart.label, self.width, self.height
        )
        for kind in (Span, None, Band, Line, Points, Rule, Hover):
            if kind is None:
                yield from self._axes()
            else:
                for mark in self.chart.marks:
                    if isinstance(mark, kind):
                        yield from self._mark(mark)
        yield Markup("</svg>")

    def _axes(self) -> Iterator[Markup]:
        chart = self.chart
        for tick in self.y_ticks:
            place = self.y.at(tick)
            yield _path(f"M{_px(self.left)} {_px(place)}H{_px(self.right)}", "grid")
            yield _text(self.left - 6, place + 4, chart.y.text(tick), "end")
        for tick in self.x_ticks:
            place = self.x.at(tick)
            yield _path(f"M{_px(place)} {_px(self.bottom)}v4", "tick")
            yield _text(place, self.bottom + 16, chart.x.text(tick), "middle")
        yield _path(f"M{_px(self.left)} {_px(self.bottom)}H{_px(self.right)}", "tick")
        yield _text(0, 12, chart.y.label, "start", "axis")
        yield _text(self.right, self.height - 3, chart.x.label, "end", "axis")

    def _mark(self, mark: Mark) -> Iterator[Markup]:
        if isinstance(mark, Line):
            yield _path(_strokes(self.x(mark.x), self.y(mark.y)), _line_class(mark))
        elif isinstance(mark, Band):
            yield _path(_area(self.x(mark.x), self.y(mark.low), self.y(mark.high)), f"band tone{mark.tone}")
        elif isinstance(mark, Points):
            yield from self._points(mark)
        elif isinstance(mark, Rule):
            yield from self._rule(mark)
        elif isinstance(mark, Span):
            start, end = self.x.at(mark.start), self.x.at(mark.end)
            yield _path(
                f"M{_px(start)} {_px(self.top)}H{_px(end)}V{_px(self.bottom)}H{_px(start)}Z", "span", mark.label
            )
        else:
            edges = self.x(mark.edges)
            for start, end, title in zip(edges[:-1], edges[1:], mark.titles, strict=True):
                box = f"M{_px(start)} {_px(self.top)}H{_px(end)}V{_px(self.bottom)}H{_px(start)}Z"
                yield _path(box, "hover", title)

    def _points(self, mark: Points) -> Iterator[Markup]:
        known = np.isfinite(mark.x) & np.isfinite(mark.y)
        pen = _SHAPES[mark.shape]
        places = zip(self.x(mark.x), self.y(mark.y), known, strict=True)
        moves = [f"M{_px(x)} {_px(y)}{pen}" if fine else "" for x, y, fine in places]
        if not mark.titles:
            yield _path("".join(moves), _point_class(mark))
            return
        for move, title in zip(moves, mark.titles, strict=True):
            if move:
                yield _path(move, _point_class(mark), title)

    def _rule(self, mark: Rule) -> Iterator[Markup]:
        if mark.axis == "y":
            place = self.y.at(mark.value)
            up = place + 13 if place - self.top < 30 else place - 4
            yield _path(f"M{_px(self.left)} {_px(place)}H{_px(self.right)}", "rule")
            across = self.left + 4 if mark.side == "start" else self.right - 2
            yield _text(across, up, mark.label, mark.side, "rule-text")
            return
        place = self.x.at(mark.value)
        late = place > (self.left + self.right) / 2
        yield _path(f"M{_px(place)} {_px(self.top)}V{_px(self.bottom)}", "rule")
        up = self.bottom - 6 if mark.side == "start" else self.top + 10
        yield _text(place + (-4 if late else 4), up, mark.label, "end" if late else "start", "rule-text")


def _line_class(mark: Line) -> str:
    return f"line tone{mark.tone}{' dashed' if mark.dashed else ''}"


def _point_class(mark: Points) -> str:
    return f"{mark.shape} tone{mark.tone}{' faint' if mark.faint else ''}{' told' if mark.titles else ''}"


def _px(value: float) -> str:
    """A tenth of a pixel is what can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def _strokes(x: Floats, y: Floats) -> str:
    """A pen's way through the points; it is lifted where one is missing, and a lone point still leaves a dot."""
    moves, down = [], False
    for across, up in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(across) and np.isfinite(up):
            moves.append(f"{'L' if down else 'M'}{_px(across)} {_px(up)}{'' if down else 'h0'}")
            down = True
        else:
            down = False
    return "".join(moves)


def _area(x: Floats, low: Floats, high: Floats) -> str:
    """A closed way around each stretch without a missing value."""
    known = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    ways = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        there = [f"{_px(a)} {_px(b)}" for a, b in zip(x[start:end], high[start:end], strict=True)]
        back = [f"{_px(a)} {_px(b)}" for a, b in zip(x[start:end][::-1], low[start:end][::-1], strict=True)]
        ways.append("M" + "L".join(there + back) + "Z")
    return "".join(ways)


def _path(way: str, kind: str, title: str = "") -> Markup:
    if title:
        return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, way, title)
    return Markup('<path class="{}" d="{}"/>').format(kind, way)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    classes = f"{anchor} {kind}".strip()
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(_px(x), _px(y), classes, text)


__all__ = ["Axis", "Band", "Chart", "Hover", "Line", "Mark", "Points", "Rule", "Shape", "Span"]
