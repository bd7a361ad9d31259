"""The frame of a report: one HTML file with everything in it that reads well on a screen, a phone and paper.

Its policy forbids every request, script and style but its own style sheet, so a report that someone was sent can be
opened without a second thought. What comes from outside is escaped by Jinja2 or by `charts`.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from slipstream.loadtest.report.drawing.bars import Bars
from slipstream.loadtest.report.drawing.charts import Chart
from slipstream.loadtest.report.drawing.flame import Flame
from slipstream.loadtest.report.drawing.intervals import Intervals

Tone = Literal["good", "bad", "open", "void", "plain"]
WIDE, NARROW = 960, 360


@dataclass(frozen=True)
class Table:
    """``rows`` of cells; ``numeric`` columns are set right. ``caption`` also names it for those who hear it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with what it says in words and, folded, its numbers."""

    title: str
    chart: Chart
    note: str = ""
    table: Table | None = None
    wide: bool = False

    @property
    def drawings(self) -> list[tuple[str, Markup]]:
        """A wide figure is drawn twice, for wide and for narrow screens, so that its text keeps its size."""
        if not self.wide:
            return [("any", self.chart.svg(NARROW, 230))]
        return [("wide", self.chart.svg(WIDE, 220)), ("narrow", self.chart.svg(NARROW, 220))]


@dataclass(frozen=True)
class BarFigure:
    """Bars, intervals or lanes, with what they say in words."""

    title: str
    bars: Bars | Intervals | Flame
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values; ``wide`` ones take the whole width in several columns."""

    title: str
    rows: Sequence[tuple[str, str]]
    wide: bool = False


@dataclass(frozen=True)
class Source:
    """Text as it was written: a configuration, a command."""

    title: str
    text: str


@dataclass(frozen=True)
class Note:
    """A sentence, for what is not there as well."""

    text: str


Block: TypeAlias = Table | Figure | BarFigure | Facts | Source | Note


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; figures stand beside each other where there is room."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Claim:
    """One row under the headline; ``facts`` are short and stand in its columns."""

    word: str
    tone: Tone
    name: str
    text: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A report. ``word`` is the verdict, ``sentence`` what it rests on."""

    title: str
    word: str
    tone: Tone
    sentence: str
    subtitle: str
    notes: Sequence[str]
    claims: Sequence[Claim]
    sections: Sequence[Section]

    def html(self) -> str:
        """The file."""
        style, template = _parts()
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        return template.render(page=self, style=Markup(style), style_hash=f"sha256-{digest}")  # noqa: S704 - our own


@cache
def _parts() -> tuple[str, Template]:
    folder = files("slipstream.loadtest.report.drawing")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    source = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    return folder.joinpath("page.css").read_text(encoding="utf-8"), environment.from_string(source)


__all__ = [
    "BarFigure", "Block", "Claim", "Facts", "Figure", "Note", "Page", "Section", "Source", "Table", "Tone",
]  # fmt: skip
