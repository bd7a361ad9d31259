"""Horizontal bars as HTML and CSS-sized SVG: they stay readable at any width, which drawn text would not."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Part:
    """A piece of a bar; ``text`` is what is told when it is pointed at."""

    name: str
    value: float
    tone: int
    text: str


@dataclass(frozen=True)
class Bar:
    """``parts`` one after the other; ``text`` stands at its end."""

    name: str
    parts: tuple[Part, ...]
    text: str

    @property
    def value(self) -> float:
        return sum(part.value for part in self.parts)


@dataclass(frozen=True)
class Bars:
    """``label`` says in a sentence what they show. All bars share one scale; each of its own with ``whole``."""

    label: str
    bars: tuple[Bar, ...]
    whole: bool = False

    def html(self) -> Markup:
        """One row per bar."""
        longest = max((bar.value for bar in self.bars), default=0.0)
        rows = [_row(bar, bar.value if self.whole else longest) for bar in self.bars]
        return Markup('<div class="bars" role="group" aria-label="{}">{}</div>').format(
            self.label, Markup("").join(rows)
        )

    def legend(self) -> Markup:
        """Of the parts, where bars have several."""
        known = {part.name: part.tone for bar in self.bars for part in bar.parts if len(bar.parts) > 1}
        swatch = Markup('<path class="fill tone{}" d="M0 1H24V11H0Z"/>')
        key = Markup('<svg class="key" viewBox="0 0 24 12" aria-hidden="true">{}</svg>')
        entries = [
            Markup("<li>{}{}</li>").format(key.format(swatch.format(tone)), name) for name, tone in known.items()
        ]
        return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries)) if entries else Markup("")


def _row(bar: Bar, full: float) -> Markup:
    return Markup(
        '<div class="bar-row"><div class="bar-name">{}</div>'
        '<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
        '<div class="bar-text">{}</div></div>'
    ).format(bar.name, f"{bar.name}: {bar.text}", _parts(bar, full), bar.text)


def _parts(bar: Bar, full: float) -> Markup:
    drawn, start = [], 0.0
    for part in bar.parts:
        width = 1000 * part.value / full if full > 0 else 0.0
        drawn.append(
            Markup('<rect class="fill tone{}" x="{}" width="{}" height="10"><title>{}</title></rect>').format(
                part.tone, f"{start:.1f}", f"{max(width, 1.0):.1f}", part.text
            )
        )
        start += width
    return Markup("").join(drawn)


def bars_of(label: str, named: Sequence[tuple[str, float, str]], tone: int) -> Bars:
    """Bars of one part each from (name, value, text)."""
    return Bars(label, tuple(Bar(name, (Part(name, value, tone, text),), text) for name, value, text in named))


__all__ = ["Bar", "Bars", "Part", "bars_of"]
