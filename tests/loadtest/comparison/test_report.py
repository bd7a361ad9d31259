"""The report of a comparison: what it says, and that it reads on a desktop and a phone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.loadtest.comparison.output.report import render_comparison
from slipstream.loadtest.comparison.record import Record
from slipstream.loadtest.comparison.verdict import judge_pairs
from tests.loadtest.comparison.recorded import ran
from tests.loadtest.report.browser import Tab, chromium, find_chromium

PROGRAM = find_chromium()
SHOWN = "[...document.querySelectorAll('svg.chart, svg.interval')].filter(one => one.getBoundingClientRect().width > 0)"


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Record:
    done = ran(tmp_path_factory.mktemp("slower"), slower=1.3, golden=0.5)
    hostile = replace(done.b, given="<script>document.title = 'taken'</script>" + "x" * 200)
    return replace(done, b=hostile, notes=("A note that was known before.",))


def page_of(record: Record) -> str:
    return render_comparison(record, judge_pairs(record.values(), record.margin))


def test_everything_that_identifies_it_is_there(slower: Record) -> None:
    page = page_of(slower)
    for said in (
        "REGRESSION", "75e68665210cfcce", "fe8a7c452f23d1df", "20261122T005207-71e41aab", "132 to 139", "AMD EPYC",
        "slipstream compare 75e6 http://127.0.0.1:8081", "kind: poisson", "8 complete of 8", "production-v0.1-gptq",
        "A note that was known before.", "round-01-A", "session-cookie",
    ):  # fmt: skip
        assert said in page, said
    assert "<script>" not in page
    assert "trusted-host" not in page  # both pass it


def test_the_verdict_is_named_with_its_worst_effects_first(slower: Record) -> None:
    page = page_of(slower)
    claims = page[page.index('class="claims"') : page.index("</header>")]
    assert claims.index("worse") < claims.index("no worse")
    assert "TTFT p95" in claims[: claims.index("no worse")]
    assert "Golden questions passed" in claims[: claims.index("no worse")]
    assert "TTFT p95 +" in page[page.index("<h1>") : page.index("</h1>")]


def test_equals_are_no_worse_and_their_report_says_so(tmp_path: Path) -> None:
    page = page_of(ran(tmp_path))
    assert "<title>NO WORSE: Comparison default</title>" in page
    assert "Both pass the same of 2 golden questions." in page


def test_samples_that_are_gone_take_the_distributions_and_nothing_else(tmp_path: Path) -> None:
    done = ran(tmp_path, rounds=2)
    for path in tmp_path.glob("*/samples.jsonl"):
        path.unlink()
    page = page_of(done)
    assert "INCONCLUSIVE" in page
    assert "fewer than 8 rounds" in page


def test_a_server_that_changed_between_runs_is_told(tmp_path: Path) -> None:
    done = ran(tmp_path, rounds=2)
    runs = (*done.runs[:-1], replace(done.runs[-1], index_digest="another"))
    page = page_of(replace(done, runs=runs))
    assert "A was not one and the same server all the time" in page
    assert "A and B answer from different indexes" in page


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    if PROGRAM is None:
        pytest.skip("no Chromium; `make browser` installs one")
    with chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize("width", [1280, 390])
def test_it_reads_well_in_a_browser_without_network(tab: Tab, slower: Record, tmp_path: Path, width: int) -> None:
    page = tmp_path / "report.html"
    page.write_text(page_of(slower), encoding="utf-8")
    tab.open(page, width=width)
    assert tab.find("document.title") == "REGRESSION: Comparison default"
    assert [sent["request"]["url"] for sent in tab.seen("Network.requestWillBeSent")] == [page.as_uri()]
    assert not tab.seen("Log.entryAdded")
    assert tab.find("document.documentElement.scrollWidth") <= width
    assert tab.find(f"{SHOWN}.length") >= 20
    # No row of the forest plot is too narrow to read, and none lies over its neighbour.
    rows = tab.find(
        "[...document.querySelectorAll('.interval-row')].map(row => [...row.children].map(one => "
        "{ const r = one.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] }))"
    )
    for name, drawing, text in rows[:-1]:
        assert drawing[2] - drawing[0] >= 120
        assert text[0] >= name[2] - 0.5 or text[1] >= name[3] - 0.5
        assert all(box[0] >= 0 and box[2] <= width + 0.5 for box in (name, drawing, text))
