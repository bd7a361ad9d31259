"""The engine's gauges, read from Prometheus' text."""

import time
from pathlib import Path

import pytest

from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.run.engine_watch import EngineWatch, parse, read_engine, triton_metrics
from tests.loadtest.scripted import answering, scripted

TEXT = """# HELP nv_inference_count Number of inferences
nv_inference_count{model="embedder",version="1"} 12
# TYPE slipstream_generator_active gauge
slipstream_generator_active{bundle="75e6",model="generator",version="1"} 3
slipstream_generator_waiting{bundle="75e6",model="generator",version="1"} 2
slipstream_generator_cache_usage_ratio{bundle="75e6"} 0.875000
slipstream_generator_tokens_total{bundle="75e6"} 1200
slipstream_generator_steps_total{bundle="75e6"} 400
slipstream_generator_draft_proposed_total{bundle="75e6"} 90
slipstream_generator_draft_accepted_total{bundle="75e6"} 31
slipstream_generator_cancelled_total{bundle="75e6"} 1
slipstream_generator_odd 1e
"""


def test_the_engines_own_metrics_are_read_and_others_left() -> None:
    assert parse(TEXT, 4.0) == EngineLook(4.0, 3, 2, 0.875, 400, 1200, 90, 31)


@pytest.mark.parametrize("text", ["", "nv_inference_count 3\n", "<html>", "slipstream_generator_odd 1\n"])
def test_who_tells_nothing_of_an_engine_is_no_engine(text: str) -> None:
    assert parse(text, 4.0) is None


def test_two_engines_count_together() -> None:
    both = parse('slipstream_generator_active{bundle="a"} 1\nslipstream_generator_active{bundle="b"} 2\n', 0.0)
    assert both == EngineLook(0.0, active=3)


def test_it_is_watched_from_the_beginning_to_the_end(tmp_path: Path) -> None:
    path, start = tmp_path / "engine.jsonl", time.perf_counter()
    with scripted(answering("200 OK", TEXT.encode())) as server, EngineWatch(path, server.host + "/metrics"):
        deadline = time.monotonic() + 20
        while not read_engine(path, start):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    looks = read_engine(path, start)
    assert 0 < looks[0].t_s < 20
    assert looks[0].waiting == 2


def test_nothing_is_written_where_nobody_tells(tmp_path: Path) -> None:
    path = tmp_path / "engine.jsonl"
    with EngineWatch(path, "http://127.0.0.1:9/metrics"):
        time.sleep(0.7)
    assert read_engine(path, 0.0) == ()
    assert read_engine(tmp_path / "none", 0.0) == ()


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "engine.jsonl"
    path.write_text('{"t_s": 9.0, "active": 1}\n{"t_s": 10.5, "active": 2}\n{"t_s": 11, "act')
    assert read_engine(path, 10.0) == (EngineLook(0.5, active=2),)


def informed(port: int) -> bytes:
    where = f'triton_metrics="http://127.0.0.1:{port}/metrics",version="0.1.0"'
    return f'slipstream_requests_in_flight 1.0\nslipstream_info{{bundle="75e6",release="main",{where}}} 1.0\n'.encode()


def test_triton_is_asked_at_the_port_that_the_facade_says() -> None:
    with scripted(answering("200 OK", informed(43210))) as server:
        assert triton_metrics(f"{server.host}/v1", 8002) == "http://127.0.0.1:43210/metrics"


@pytest.mark.parametrize("said", [b"", b'slipstream_info{version="0.1.0"} 1.0\n', informed(0)[:60], b"\xff\x00"])
def test_where_the_facade_says_nothing_it_is_the_port_of_the_settings(said: bytes) -> None:
    with scripted(answering("200 OK", said)) as server:
        assert triton_metrics(server.host, 8002) == "http://127.0.0.1:8002/metrics"


@pytest.mark.parametrize(
    ("url", "metrics"),
    [("http://127.0.0.1:9", "http://127.0.0.1:8002/metrics"), ("http://[::1]:9/v1", "http://[::1]:8002/metrics")],
)
def test_triton_is_on_the_host_of_the_facade(url: str, metrics: str) -> None:
    assert triton_metrics(url, 8002) == metrics
