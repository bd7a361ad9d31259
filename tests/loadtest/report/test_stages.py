"""The server's own times in the report of a load test."""

from dataclasses import replace

from slipstream.loadtest.report.drawing.page import BarFigure, Table
from slipstream.loadtest.report.stages import stage_blocks, tone_of
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.sample import Sample
from tests.loadtest.report.served import judged, scenario, served

OURS = ("queue", "embed", "retrieve", "prompt", "prefill", "decode", "detokenize", "stream", "rest")


def blocks(samples: list[Sample]) -> tuple[BarFigure, Table]:
    figure, table = stage_blocks(Columns.of(samples), judged(scenario(), samples))
    assert isinstance(figure, BarFigure)
    assert isinstance(table, Table)
    return figure, table


def test_the_slow_tail_stands_beside_all_requests_stage_by_stage() -> None:
    figure, table = blocks(served(scenario(), slow=0.04))
    every, slow = figure.bars.html().split('<div class="bar-row">')[1:]
    assert "all requests" in every
    assert "slowest 5%" in slow
    assert table.head[4] == "p99, ms"
    rows = {row[0]: row for row in table.rows}
    p50, p95, p99 = (float(cell.replace(",", "")) for cell in rows["queue"][2:5])
    assert p50 < p95 < p99
    of_all, of_slow = (int(cell.removesuffix("%")) for cell in rows["queue"][-2:])
    assert of_slow > of_all  # what was simulated: some wait


def test_stages_stand_in_the_servers_order_whoever_failed_early() -> None:
    samples = served(scenario())
    samples[0] = replace(samples[0], stages_s={"decode": 0.1})
    assert [row[0] for row in blocks(samples)[1].rows] == ["queue", "retrieval", "prefill", "decode"]


def test_every_stage_of_ours_has_a_colour_of_its_own() -> None:
    assert len({tone_of(stage) for stage in OURS}) == len(OURS)
    assert tone_of("queue", 0) == tone_of("queue", 5)
    assert tone_of("of another server", 0) != tone_of("of another server", 1)
