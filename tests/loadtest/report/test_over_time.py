"""What the charts over time and the distributions show, against runs whose truth is known."""

import numpy as np
import pytest

from slipstream.loadtest.report.bins import Bins
from slipstream.loadtest.report.distributions import cdf_figures, prompt_figures
from slipstream.loadtest.report.drawing.charts import Line, Points, Rule
from slipstream.loadtest.report.drawing.page import Block, Figure, Note
from slipstream.loadtest.report.latency import latency_figures
from slipstream.loadtest.report.machine import throughput_figures
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.sample import Sample
from tests.loadtest.results.test_verdict import judged
from tests.loadtest.simulated import failed, request, scenario, steady


def figures(blocks: list[Block]) -> list[Figure]:
    return [block for block in blocks if isinstance(block, Figure)]


def over_time(samples: list[Sample]) -> tuple[Columns, Bins]:
    columns = Columns.of(samples)
    return columns, Bins.of(columns)


def test_parts_of_the_run_cover_it_and_each_moment_lies_in_one() -> None:
    for count in (1, 3, 50, 650, 5_000):
        columns, bins = over_time(steady([0.2] * count))
        assert bins.edges_s[0] == 0
        assert bins.edges_s[-1] >= columns.end_s.max()
        assert bins.counts(columns.scheduled_s).sum() == count
        assert len(bins) <= 101
    assert bins.counts(np.array([-1.0, np.nan, np.inf, 1e9])).sum() == 0


def test_no_samples_and_broken_times_have_one_part() -> None:
    assert len(Bins.of(Columns.of([]))) == 1
    broken = Sample(0, 0.0, 0.0, float("nan"), "refused")
    assert len(Bins.of(Columns.of([broken]))) == 1


def test_a_stall_shows_at_those_it_hit_and_a_failure_as_a_cross_above_all() -> None:
    samples = steady([5.0 if 300 <= n < 320 else 0.2 for n in range(640)])
    samples += [failed(640, 50.0), failed(641, 50.1, "refused")]
    columns, bins = over_time(samples)
    ttft = figures(latency_figures(scenario(), columns, bins, judged(samples).metrics.window))[0]
    assert ttft.table is not None
    slow = [row[0] for row in ttft.table.rows if row[4].startswith("5,0")]
    assert slow == [name for name in bins.names() if 29 <= float(name.split()[0]) < 32]
    assert [row[5] for row in ttft.table.rows if row[5] != "0"] == ["1 refused, 1 server_error"]
    crosses = next(mark for mark in ttft.chart.marks if isinstance(mark, Points) and mark.name == "failed")
    assert crosses.x.tolist() == pytest.approx([50.0, 50.1])
    assert crosses.y.min() > 5_000
    slowest = next(mark for mark in ttft.chart.marks if isinstance(mark, Points) and mark.name == "slowest")
    assert len(slowest.titles) == 5
    assert all("5,001 ms" in title for title in slowest.titles)


def test_rates_are_those_of_the_run() -> None:
    samples = steady([0.9 if n % 2 else 0.2 for n in range(650)])
    columns, bins = over_time(samples)
    requests = figures(throughput_figures(scenario(), columns, bins, judged(samples).metrics.window))[0]
    lines = {mark.name: mark.y for mark in requests.chart.marks if isinstance(mark, Line)}
    assert set(lines) == {"due", "succeeded", "met every SLO"}
    assert np.median(lines["due"]) == pytest.approx(10)
    assert np.median(lines["met every SLO"]) == pytest.approx(5)


def test_a_distribution_ends_below_all_where_requests_failed_and_shows_the_bound() -> None:
    samples = [*steady([0.2] * 550), *(failed(n, n / 10) for n in range(550, 650))]
    found = figures(cdf_figures(scenario(), Columns.of(samples), judged(samples)))
    (line,) = [mark for mark in found[0].chart.marks if isinstance(mark, Line) and mark.name == "share of requests"]
    assert line.y[-1] == pytest.approx(100 * 500 / 600)
    assert [(mark.axis, mark.value) for mark in found[0].chart.marks if isinstance(mark, Rule)] == [
        ("x", 500),
        ("y", 95),
    ]
    assert found[0].table is not None
    assert dict(found[0].table.rows)["95%"] == "never"


def test_ttft_grows_with_the_prompt_where_it_does() -> None:
    samples = [request(n, 5 + n / 10, ttft=n / 1000, prompt_tokens=n) for n in range(100, 600)]
    (figure,) = figures(prompt_figures(scenario(), Columns.of(samples)))
    (line,) = [mark for mark in figure.chart.marks if isinstance(mark, Line)]
    assert (line.y / line.x).tolist() == pytest.approx([1] * len(line.x), rel=0.02)
    untold = [request(n, 5 + n / 10, prompt_tokens=None) for n in range(9)]
    assert all(isinstance(block, Note) for block in prompt_figures(scenario(), Columns.of(untold)))
