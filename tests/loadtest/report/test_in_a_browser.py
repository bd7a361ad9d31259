"""The report as a browser shows it, on a desktop and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.loadtest.report.records import RateRun
from slipstream.loadtest.report.render import render
from tests.loadtest.report.browser import Tab, chromium, find_chromium
from tests.loadtest.report.served import RUN, judged, scenario, served, watched

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium; `make browser` installs one")
SHOWN = "[...document.querySelectorAll('svg.chart')].filter(one => one.getBoundingClientRect().width > 0)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert PROGRAM is not None
    with chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With every section, failures, and words that are longer than a phone is wide."""
    load = scenario()
    samples = served(load, failing=0.1)
    for sample in samples:
        sample.detail = sample.detail and "<script>document.title = 'taken'</script>" + "x" * 400
    result = judged(load, samples)
    rates = [RateRun(rate, result, series) for series in "AB" for rate in (1, 3)]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(RUN, load, samples, result, telemetry=watched(gpus=2), rates=rates), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_reads_well_without_network_script_or_error(tab: Tab, page: Path, width: int, dark: bool) -> None:
    tab.open(page, width=width, dark=dark)
    assert tab.find("document.title").startswith("FAIL: Load test default")
    assert [sent["request"]["url"] for sent in tab.seen("Network.requestWillBeSent")] == [page.as_uri()]
    assert not tab.seen("Log.entryAdded")
    assert not tab.seen("Runtime.exceptionThrown")
    assert tab.find("document.documentElement.scrollWidth") <= width
    top = tab.find(
        "(() => { const r = document.querySelector('h1').getBoundingClientRect(); return [r.top, r.height] })()"
    )
    assert 0 <= top[0] < 200
    assert top[1] > 20
    assert tab.find(f"{SHOWN}.length") >= 12
    assert tab.find(f"{SHOWN}.every(one => one.getBoundingClientRect().height > 100)")
    # Text of a chart is read as it is drawn: neither shrunk to nothing nor blown up.
    sizes = tab.find(f"{SHOWN}.map(one => 12 * one.getBoundingClientRect().width / one.viewBox.baseVal.width)")
    assert min(sizes) >= 10
    assert max(sizes) <= 18
    assert tab.find("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    )


def test_no_text_of_a_chart_lies_outside_of_the_screen(tab: Tab, page: Path) -> None:
    tab.open(page, width=360)
    texts = f"{SHOWN}.flatMap(one => [...one.querySelectorAll('text')])"
    place = "const r = text.getBoundingClientRect(); return r.left < 0 || r.right > 360"
    outside = f"{texts}.filter(text => {{ {place} }}).map(text => text.textContent)"
    assert tab.find(outside) == []


def test_the_keyboard_opens_the_numbers_behind_a_chart(tab: Tab, page: Path) -> None:
    tab.open(page, width=1280)
    tab.find("document.querySelector('figure summary').focus()")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    assert tab.find("document.querySelector('figure details').open")
    assert tab.find("document.querySelector('figure details table').getBoundingClientRect().height") > 100


def test_the_policy_stops_what_would_run_or_load(tab: Tab, page: Path) -> None:
    tab.open(page, width=1280)
    tab.find(
        "(() => { const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s) })()"
    )
    tab.find("(() => { const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i) })()")
    assert tab.find("window.ran") is None
    violations = " ".join(entry["entry"]["text"] for entry in tab.seen("Log.entryAdded"))
    assert "Content Security Policy" in violations


def test_it_prints_on_paper_in_ink(tab: Tab, page: Path) -> None:
    tab.open(page, width=1280, dark=True)
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.find("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.find("getComputedStyle(document.querySelector('nav')).display") == "none"
