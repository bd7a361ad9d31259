"""Charts as SVG: well-formed, escaped, and in the picture."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from slipstream.loadtest.report.drawing.bars import Bar, Bars, Part
from slipstream.loadtest.report.drawing.charts import Axis, Band, Chart, Hover, Line, Mark, Points, Rule, Span

HOSTILE = """</svg><script>alert("1")</script>'&<b>"""
X = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
Y = np.array([1.0, 4.0, np.nan, 3.0, 2.0])


def chart(*marks: Mark, **axes: Axis) -> Chart:
    return Chart("A label", axes.get("x", Axis("time, s")), axes.get("y", Axis("latency, ms")), marks)


def drawn(one: Chart, width: int = 360, height: int = 230) -> ET.Element:
    return ET.fromstring(str(one.svg(width, height)))  # noqa: S314 - our own


def of_class(svg: ET.Element, name: str) -> list[ET.Element]:
    return [part for part in svg.iter() if name in part.get("class", "").split()]


def test_a_line_is_interrupted_where_a_value_is_missing() -> None:
    (line,) = of_class(drawn(chart(Line("p50", X, Y))), "line")
    assert line.get("d", "").count("M") == 2
    assert "nan" not in line.get("d", "")


def test_a_band_is_closed_around_each_stretch() -> None:
    (band,) = of_class(drawn(chart(Band("range", X, Y - 1, Y + 1))), "band")
    assert re.findall("[MZ]", band.get("d", "")) == ["M", "Z", "M", "Z"]


def test_nothing_to_draw_is_still_a_picture() -> None:
    empty = np.full(3, np.nan)
    for log in (False, True):
        svg = drawn(chart(Line("p50", empty, empty), Points("one", empty, empty), y=Axis("ms", log=log)))
        assert "nan" not in ET.tostring(svg, encoding="unicode")


@pytest.mark.parametrize("log", [False, True])
def test_all_marks_lie_inside_of_the_picture(log: bool) -> None:
    values = np.array([0.5, 1e6, 3.0, 40.0, 2.0])
    svg = drawn(
        chart(
            Line("p50", X, values), Points("requests", X, values, shape="cross"), Rule("y", 2e6, "bound"),
            Span(0, 1, "warm-up"), Hover(np.array([0.0, 2.0, 4.0]), ("a", "b")), y=Axis("ms", log=log),
        )
    )  # fmt: skip
    for path in svg.iter("path"):
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", "")):
            assert 0 <= float(x) <= 360
            assert 0 <= float(y) <= 230


def test_both_axes_carry_their_units_and_several_ticks() -> None:
    svg = drawn(chart(Line("p50", X, Y)))
    assert [text.text for text in of_class(svg, "axis")] == ["latency, ms", "time, s"]
    assert len([text for text in svg.iter("text") if "axis" not in text.get("class", "")]) >= 6


def test_what_is_pointed_at_tells_about_itself_and_the_chart_to_who_hears_it() -> None:
    svg = drawn(chart(Points("slow", X, Y, titles=[f"request {n}" for n in range(5)]), Hover(X, list("abcd"))))
    assert [title.text for title in svg.iter("title")] == [
        "request 0", "request 1", "request 3", "request 4", "a", "b", "c", "d",
    ]  # fmt: skip
    assert (svg.get("role"), svg.get("aria-label")) == ("img", "A label")


def test_every_text_is_escaped() -> None:
    one = Chart(
        HOSTILE, Axis(HOSTILE), Axis(HOSTILE),
        (Line(HOSTILE, X, Y), Rule("x", 1, HOSTILE), Span(0, 1, HOSTILE), Points(HOSTILE, X, Y, titles=[HOSTILE] * 5)),
    )  # fmt: skip
    bars = Bars(HOSTILE, (Bar(HOSTILE, (Part(HOSTILE, 1, 1, HOSTILE), Part(HOSTILE, 1, 2, HOSTILE)), HOSTILE),))
    for text in (one.svg(360, 230), one.legend(), bars.html(), bars.legend()):
        assert "<script" not in text
        assert "<b>" not in text
        assert '"1"' not in text


def test_series_differ_by_more_than_their_colour() -> None:
    one = chart(Line("a", X, Y, 1), Line("b", X, Y, 2), Points("c", X, Y, 3, "cross"), Points("d", X, Y, 4, "diamond"))
    keys = re.findall(r'<path class="([^"]+)" d="([^"]+)"', str(one.legend()))
    assert len(set(keys)) == 4
    assert [kind.split()[0] for kind, _ in keys] == ["line", "line", "cross", "diamond"]


def test_bars_share_one_scale_or_fill_their_own() -> None:
    two = (Bar("a", (Part("x", 1, 1, ""),), "1"), Bar("b", (Part("x", 3, 1, ""), Part("y", 1, 2, "")), "4"))
    widths = [float(width) for width in re.findall(r' width="([\d.]+)" height', str(Bars("", two).html()))]
    assert widths == [250, 750, 250]
    whole = [float(width) for width in re.findall(r' width="([\d.]+)" height', str(Bars("", two, whole=True).html()))]
    assert whole == [1000, 750, 250]
