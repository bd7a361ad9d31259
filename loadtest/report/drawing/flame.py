"""Stretches of time to scale, one lane above the other, as SVG that takes any width and keeps the size of its text.

Places are shares of the lane's width, so nothing is drawn twice for small screens; a word that does not fit into its
box is cut off with it, and told when it is pointed at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from slipstream.loadtest.report.drawing.scales import tick_text, ticks

_HAIRLINE = 0.004  # of the width: thinner boxes have no edges, which would hide them


@dataclass(frozen=True)
class Box:
    """``text`` stands in it where there is room; ``title`` is told when it is pointed at."""

    start: float
    length: float
    tone: int
    title: str
    text: str = ""


@dataclass(frozen=True)
class Lane:
    """Boxes beside each other; ``name`` says what they are."""

    name: str
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Stack:
    """Lanes of one thing, the outermost first."""

    name: str
    text: str
    lanes: Sequence[Lane]


@dataclass(frozen=True)
class Flame:
    """``label`` says in a sentence what is shown; all stacks share the scale from 0 to ``most``, in ``unit``."""

    label: str
    stacks: Sequence[Stack]
    most: float
    unit: str
    keys: Sequence[tuple[str, int]] = ()

    def html(self) -> Markup:
        """One block per stack, and the scale below."""
        blocks = [_stack(stack, self.most or 1.0) for stack in self.stacks]
        return Markup('<div class="flame" role="group" aria-label="{}">{}{}</div>').format(
            self.label, Markup("").join(blocks), _axis(self.most or 1.0, self.unit)
        )

    def legend(self) -> Markup:
        """Of the tones in ``keys``."""
        swatch = Markup('<path class="fill tone{}" d="M0 1H24V11H0Z"/>')
        key = Markup('<li><svg class="key" viewBox="0 0 24 12" aria-hidden="true">{}</svg>{}</li>')
        entries = [key.format(swatch.format(tone), name) for name, tone in self.keys]
        return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def _stack(stack: Stack, most: float) -> Markup:
    lanes = [
        Markup('<div class="lane-name">{}</div><svg class="lane" role="img" aria-label="{}">{}</svg>').format(
            lane.name, f"{stack.name}, {lane.name}", Markup("").join(_box(box, most) for box in lane.boxes)
        )
        for lane in stack.lanes
    ]
    head = Markup('<p class="stack-name"><strong>{}</strong> {}</p>').format(stack.name, stack.text)
    return Markup('<div class="stack">{}{}</div>').format(head, Markup("").join(lanes))


def _box(box: Box, most: float) -> Markup:
    share = box.length / most
    kind = "fill" if share >= _HAIRLINE else "fill thin"
    text = Markup('<text x="4" y="13">{}</text>').format(box.text) if box.text else Markup("")
    return Markup(
        '<svg x="{}%" width="{}%"><rect class="{} tone{}" width="100%" height="18"><title>{}</title></rect>{}</svg>'
    ).format(f"{100 * box.start / most:.3f}", f"{max(100 * share, 0.05):.3f}", kind, box.tone, box.title, text)


def _axis(most: float, unit: str) -> Markup:
    marks = [
        Markup('<text x="{}%" y="14" class="{}">{}</text>').format(
            f"{100 * tick / most:.2f}", "end" if tick > 0.93 * most else "middle" if tick else "start", tick_text(tick)
        )
        for tick in ticks(0.0, most, 5)
    ]
    return Markup(
        '<div class="stack"><div class="lane-name">{}</div><svg class="lane axis-lane">{}</svg></div>'
    ).format(unit, Markup("").join(marks))


__all__ = ["Box", "Flame", "Lane", "Stack"]
