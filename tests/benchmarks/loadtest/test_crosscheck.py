"""When two tools are said to agree: by what each read of the same requests, however fast the server was just then."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.loadtest.crosscheck import Run, ServerLog, table


def run(read_ms: float, said_ms: float) -> Run:
    return Run(read_ms, read_ms / 10, said_ms, said_ms / 10, 0.1, 672, 4004, 1.0)


def pairs(theirs: tuple[float, float], ours: tuple[float, float]) -> list[tuple[Run, Run]]:
    return [(run(*(one * drift for one in theirs)), run(*(one * drift for one in ours))) for drift in (1.0, 1.4, 0.8)]


def test_a_server_that_one_tool_slows_down_is_no_disagreement() -> None:
    told, agree = table(pairs(theirs=(133.0, 130.0), ours=(113.0, 110.0)))
    assert agree
    assert "| TTFT, ms | 141.87 (106.40–186.20) | 120.53 (90.40–158.20) | 0.850 |" in told


@pytest.mark.parametrize(("read", "agree"), [(104.9, True), (105.2, False), (95.2, True), (94.0, False)])
def test_reading_another_time_of_the_same_requests_is_one(read: float, agree: bool) -> None:
    assert table(pairs(theirs=(100.0, 100.0), ours=(read, 100.0)))[1] is agree


def test_the_server_is_asked_about_the_requests_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    heard = ServerLog(path)

    def lines(times_ms: list[int]) -> str:
        said = [{"event": "request", "ttft_s": one / 1e3, "tpot_s": one / 1e4} for one in times_ms]
        others = [{"event": "request", "route": "/v1/metadata"}, {"event": "triton.ready", "ttft_s": 9.0}]
        return "".join(json.dumps(one) + "\n" for one in [*others, *said])

    path.write_text(lines([900, 900, 900, 10, 20, 40]))  # the first three are the warm-up
    assert heard.medians(6) == pytest.approx((20.0, 2.0))
    path.write_text(path.read_text() + lines([900, 900, 900, 50]))
    assert heard.medians(4) == pytest.approx((50.0, 5.0))
    path.write_text(path.read_text() + lines([1, 2]))
    with pytest.raises(AssertionError, match="the server tells of 2 requests, not 4"):
        heard.medians(4)
