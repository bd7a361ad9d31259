"""The trace of a kept profile in the real Perfetto: every event arrives, in its process and its request."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipstream.profiling.run.conclusion import conclude
from slipstream.profiling.run.folder import ProfileFolder
from slipstream.profiling.run.writing import write
from tests.conftest import ROOT
from tests.loadtest.report.browser import chromium, find_chromium
from tests.profiling.report.perfetto import Perfetto, opened

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium; `make browser` installs one")
KEPT = ROOT / "profiling" / "samples" / "default-2-cores"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ProfileFolder(tmp_path_factory.mktemp("kept") / "profile")
    shutil.copytree(KEPT, folder.root)
    write(conclude(folder), folder)
    return folder.trace


@pytest.fixture(scope="module")
def perfetto(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perfetto]:
    assert PROGRAM is not None
    with chromium(PROGRAM, tmp_path_factory.mktemp("browser")) as tab, opened(tab, trace) as perfetto:
        yield perfetto


def events(trace: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == kind]


def test_nothing_of_it_is_refused_or_dropped(perfetto: Perfetto) -> None:
    sql = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
    assert perfetto.rows(sql, "name", "value") == []


def test_every_span_is_a_slice_of_its_request_in_its_process(perfetto: Perfetto, trace: Path) -> None:
    sql = """
        select process.name as part, thread.name as request, slice.name as stage, count(*) as times, sum(dur) as ns
        from slice join thread_track on slice.track_id = thread_track.id
        join thread using (utid) join process using (upid)
        group by part, request, stage
    """
    found = perfetto.rows(sql, "part", "request", "stage", "times", "ns")
    parts = {event["pid"]: event["args"]["name"] for event in events(trace, "M") if event["name"] == "process_name"}
    times: Counter[tuple[str, str, str]] = Counter()
    length_us: Counter[tuple[str, str, str]] = Counter()
    for event in events(trace, "X"):
        key = parts[event["pid"]], f"request {event['tid'] - 1}", event["name"]
        times[key] += 1
        length_us[key] += event["dur"]
    assert {row[:3]: row[3] for row in found} == times
    assert {row[:3]: row[4] / 1e3 for row in found} == pytest.approx(dict(length_us), abs=1)


def test_what_was_sampled_is_a_counter_track(perfetto: Perfetto, trace: Path) -> None:
    sql = "select count(*) as looks from counter join counter_track on counter.track_id = counter_track.id"
    values = sum(len(event["args"]) for event in events(trace, "C"))
    assert perfetto.rows(sql, "looks") == [(values,)]
    assert values > 100
