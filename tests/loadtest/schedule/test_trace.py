"""Traces: what is replayed, and what is refused before anything is sent."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.loadtest.schedule.trace import TraceInvalid, read_trace


def write(folder: Path, *lines: object) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def refused(path: Path) -> TraceInvalid:
    with pytest.raises(TraceInvalid) as caught:
        read_trace(path, 1.0)
    assert caught.value.remedy
    return caught.value


def test_a_trace_begins_with_its_first_request_whatever_its_clock_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"timestamp": 1.7e9, "input_length": 12, "output_length": 3},
        {"timestamp": 1.7e9 + 0.5},
        {"timestamp": 1.7e9 + 0.5, "output_length": 7, "hash_ids": [1, 2]},
    )
    recorded = read_trace(path, 1.0)
    assert [one.offset_s for one in recorded] == [0.0, 0.5, 0.5]
    assert [(one.input_tokens, one.output_tokens) for one in recorded] == [(12, 3), (None, None), (None, 7)]


@pytest.mark.parametrize(("speed", "last"), [(2.0, 5.0), (0.5, 20.0), (1.0, 10.0)])
def test_speed_two_replays_it_in_half_of_its_time(tmp_path: Path, speed: float, last: float) -> None:
    path = write(tmp_path, {"timestamp": 3}, {"timestamp": 13})
    assert read_trace(path, speed)[-1].offset_s == last


def test_a_request_out_of_order_is_named_by_its_line(tmp_path: Path) -> None:
    error = refused(write(tmp_path, {"timestamp": 1}, "", {"timestamp": 5}, {"timestamp": 4.5}))
    assert f"{tmp_path / 'trace.jsonl'}:4 is out of order" in error.message
    assert "sort" in error.remedy


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", "no JSON object"),
        ("17", "no JSON object"),
        ("{}", "timestamp"),
        ('{"timestamp": "1"}', "timestamp"),
        ('{"timestamp": true}', "timestamp"),
        ('{"timestamp": null}', "timestamp"),
        ('{"timestamp": NaN}', "timestamp"),
        ('{"timestamp": Infinity}', "timestamp"),
        ('{"timestamp": 1' + "0" * 400 + "}", "timestamp"),
        ('{"timestamp": 1' + "0" * 5000 + "}", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"timestamp": 1, "input_length": 0}', "input_length"),
        ('{"timestamp": 1, "input_length": 2.5}', "input_length"),
        ('{"timestamp": 1, "input_length": true}', "input_length"),
        ('{"timestamp": 1, "output_length": -1}', "output_length"),
        ('{"timestamp": 1, "output_length": 10000000}', "output_length"),
        ('{"timestamp": 1, "input_lenght": 5}', "unknown key 'input_lenght'"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str, says: str) -> None:
    error = refused(write(tmp_path, {"timestamp": 0}, line))
    assert ":2" in error.message
    assert says in error.message


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_a_trace_without_requests_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    assert "holds no requests" in refused(path).message


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    assert "no file" in refused(tmp_path / "missing.jsonl").message
    assert "is no file" in refused(tmp_path).message
    (tmp_path / "latin").write_bytes(b'{"timestamp": 1, "note": "\xff"}\n')
    assert "cannot be read" in refused(tmp_path / "latin").message
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refused(tmp_path / "pipe").message


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.floats(0.01, 100))
def test_gaps_are_those_of_the_trace_divided_by_its_speed(
    tmp_path_factory: pytest.TempPathFactory, moments: list[float], speed: float
) -> None:
    moments.sort()
    path = write(tmp_path_factory.mktemp("traces"), *({"timestamp": moment} for moment in moments))
    offsets = [one.offset_s for one in read_trace(path, speed)]
    assert offsets == sorted(offsets)
    assert offsets == pytest.approx([(moment - moments[0]) / speed for moment in moments], abs=1e-5)
