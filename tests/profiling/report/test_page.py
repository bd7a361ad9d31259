"""The report of a profile: what stands on it, whatever was measured."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from slipstream.profiling.diagnosis.case import WorkLimit
from slipstream.profiling.limit.work import Load
from slipstream.profiling.report.page import render
from slipstream.profiling.report.roofline import limit_rows
from slipstream.profiling.run.conclusion import Profile, conclude
from tests.profiling.report.made_profile import HOSTILE, samples, written

LIMIT = WorkLimit(
    Load(95e6, 3e8), Load(110e6, 190e9), 2, memory_bytes_per_s=18e9, operations_per_s=310e9, prefill_ms=700.0
)


def concluded(root: Path) -> Profile:
    return conclude(written(root))


def limited(profile: Profile) -> Profile:
    return replace(profile, case=replace(profile.case, limit=LIMIT))


def test_what_was_faster_than_its_limit_was_not_read_in_full() -> None:
    (*_, (name, whole)) = limit_rows(LIMIT, None)
    (*_, (_, cached)) = limit_rows(replace(LIMIT, prefill_ms=100.0), None)
    assert name == "prefill"
    assert whole == "700 ms, at least 613 ms (arithmetic binds): 88% of the limit"
    assert cached == "100 ms, at least 613 ms (arithmetic binds): the prefix cache held a part of it"
    even = replace(LIMIT, memory_bytes_per_s=20e9)
    assert even.least_ms(Load(158.8e6, 1.0)) == even.reading_ms(Load(158.8e6, 1.0))  # to the last bit: memory binds
    fast = 0.9 * LIMIT.least_ms(LIMIT.decode)
    assert limit_rows(LIMIT, fast)[-2][1].endswith("it had fewer sequences than the mean")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def test_the_diagnosis_stands_on_top_and_the_configuration_at_the_bottom(tmp_path: Path) -> None:
    page = render(concluded(tmp_path))
    places = [page.index(f'<section id="{key}"') for key in ("tail", "requests", "stages", "limit", "machine")]
    assert places == sorted(places)
    assert page.index("The search of the collection is slow") < places[0]
    assert page.index("Try: measure the store alone") < places[0]
    assert page.index('<section id="configuration"') > places[-1]
    assert "retrieve owns the tail of TTFT" in page


def test_the_median_and_the_slowest_requests_are_drawn_to_scale(tmp_path: Path) -> None:
    profile = concluded(tmp_path)
    page = render(profile)
    flame = page[page.index('<div class="flame"') : page.index('<section id="stages"')]
    slowest = max(profile.timeline.requests, key=lambda one: one.end_to_end_ms)
    steps = len(slowest.timing.steps_ms) if slowest.timing else 0
    assert flame.count('<div class="stack">') == 4  # median, p95, slowest, and the scale
    assert f"request {slowest.index}, " in flame
    assert f"decode × {steps}" in flame
    boxes = [tuple(map(float, pair)) for pair in re.findall(r'<svg x="([\d.]+)%" width="([\d.]+)%">', flame)]
    assert max(start + width for start, width in boxes) <= 100.1
    assert max(width for _, width in boxes) > 40


def test_the_roofline_tells_how_far_the_limit_is(tmp_path: Path) -> None:
    page = render(limited(concluded(tmp_path)))
    assert "what this machine can compute by how much it computes per byte" in page
    assert re.search(
        r"decode step of 2 sequences</dt><dd>[\d.]+ ms, at least 5.28 ms \(memory binds\): \d+% of the", page
    )
    assert "(arithmetic binds)" in page


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path)
    for path in (folder.telemetry, folder.engine):
        path.unlink()
    page = render(conclude(folder))
    for words in (
        "limit of this machine with this bundle is not known",
        "machine was not watched",
        "own gauges were not",
    ):
        assert words in page


def test_what_a_server_says_is_text_and_never_markup(tmp_path: Path) -> None:
    page = render(conclude(written(tmp_path, samples(stage=HOSTILE))))
    assert "script" not in Tags(page).found
    assert "&lt;script&gt;" in page


def test_answers_in_one_piece_have_stages_and_no_spans(tmp_path: Path) -> None:
    found = samples()
    for sample in found:
        assert sample.timing is not None
        sample.timing["spans"], sample.chunk_s = [], []
    page = render(conclude(written(tmp_path, found)))
    assert "The server told no spans of its requests" in page
    assert "Until the first token" not in page
    assert "owns the slow tail" in page
