"""The lower bounds of the default bundle lie below what the running appliance does."""

import json
from pathlib import Path

import pytest

from slipstream.loadtest.loading import load_scenario
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import conclude, generate
from slipstream.profiling.limit import kept, known
from slipstream.profiling.limit.bundle import find_folder, read_work
from slipstream.settings import Settings
from tests.integration.conftest import Stack
from tests.loadtest.conftest import write_scenario

pytestmark = pytest.mark.integration


def test_a_bundle_is_counted_as_its_build_stored_it(home: Path) -> None:
    """SmolLM2-135M: 30 layers of 576 x 960 + 576 x 576 + 3 x 576 x 1,536, and a head of 49,152 x 576 that embeds."""
    folder = find_folder(home / "bundles", None)
    work = read_work(folder).work
    head = 49_152 * 576
    assert work.head_parameters == head
    assert work.parameters == 30 * (576 * 960 + 576 * 576 + 3 * 576 * 1_536) + head
    stored = (folder / "engine" / "openvino_model.bin").stat().st_size
    assert 0.99 * stored < work.weight_bytes < stored


def test_no_answer_is_faster_than_its_lower_bound(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user, asking again and again; the machine is measured anew, whoever else uses it."""
    known._roof.cache_clear()
    monkeypatch.setattr(known, "read_kept", lambda home: None)
    monkeypatch.setattr(kept, "DISTURBED", 1.0)
    monkeypatch.setattr(kept, "_keep", lambda home, measured: None)
    closed = {"kind": "closed", "users": 1}
    load = write_scenario(
        tmp_path, model="slipstream-base", arrivals=closed, warmup=1, duration=8, extra_body={"ignore_eos": True}
    )
    questions = [json.dumps({"prompt": f"Explain number {number}.", "max_tokens": 64}) for number in range(50)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(questions) + "\n")
    folder = prepare(load_scenario(str(load)), stack.base_url, Settings(home=stack.home), None, tmp_path / "run")
    assert folder.limit.exists()
    generate(folder, stack.base_url, lambda state: None)
    tpot, ttft = conclude(folder).achieved
    assert (tpot.metric, tpot.resource, ttft.metric) == ("TPOT", "memory bandwidth", "TTFT")
    assert 0 < tpot.bound_ms < tpot.measured_ms
    assert tpot.sentence in folder.report.read_text(encoding="utf-8")
