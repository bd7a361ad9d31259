"""The report of a profile as a browser shows it, on a desktop and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.profiling.report.page import render
from slipstream.profiling.run.conclusion import conclude
from tests.loadtest.report.browser import Tab, chromium, find_chromium
from tests.profiling.report.made_profile import written
from tests.profiling.report.test_page import limited

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium; `make browser` installs one")
SHOWN = "[...document.querySelectorAll('svg.chart, svg.lane')].filter(one => one.getBoundingClientRect().width > 0)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert PROGRAM is not None
    with chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    path = root / "report.html"
    path.write_text(render(limited(conclude(written(root)))), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_reads_well_without_network_script_or_error(tab: Tab, page: Path, width: int, dark: bool) -> None:
    tab.open(page, width=width, dark=dark)
    assert tab.find("document.title").startswith("1 FINDING: Profile default")
    assert [sent["request"]["url"] for sent in tab.seen("Network.requestWillBeSent")] == [page.as_uri()]
    assert not tab.seen("Log.entryAdded")
    assert not tab.seen("Runtime.exceptionThrown")
    assert tab.find("document.documentElement.scrollWidth") <= width
    assert tab.find(f"{SHOWN}.length") >= 15


@pytest.mark.parametrize("width", [1280, 360])
def test_the_lanes_of_a_request_are_drawn_and_their_words_can_be_read(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width=width)
    lanes = "[...document.querySelectorAll('svg.lane:not(.axis-lane)')]"
    assert tab.find(f"{lanes}.length") == 9
    assert tab.find(f"{lanes}.every(one => one.getBoundingClientRect().height === 18)")
    assert tab.find(f"Math.min(...{lanes}.map(one => one.getBoundingClientRect().width))") >= 0.75 * width - 40
    widest = "[...document.querySelectorAll('svg.lane rect')].map(one => one.getBoundingClientRect().width)"
    assert tab.find(f"Math.max(...{widest})") > 0.3 * width
    size = "getComputedStyle(document.querySelector('svg.lane text')).fontSize"
    assert tab.find(size) == "12px"  # whatever the width: places are shares, not a drawing that is shrunk


def test_no_text_of_a_chart_lies_outside_of_the_screen(tab: Tab, page: Path) -> None:
    tab.open(page, width=360)
    texts = "[...document.querySelectorAll('svg.chart text, .axis-lane text')].filter(one => one.checkVisibility())"
    place = "const r = text.getBoundingClientRect(); return r.left < 0 || r.right > 360"
    assert tab.find(f"{texts}.filter(text => {{ {place} }}).map(text => text.textContent)") == []
