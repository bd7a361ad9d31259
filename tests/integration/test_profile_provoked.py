"""Two causes of slowness provoked on the real appliance, and found by `slipstream profile run`.

The store is a Qdrant server's REST interface over the real engine, whose searches come late; the engine starves because
its server may run on one core only, which others keep busy.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from slipstream.ensemble.triton.claims import ports_or_free
from tests.conftest import ROOT, slipstream
from tests.ensemble.retrieval.fake_qdrant import FakeQdrant, fake_qdrant
from tests.integration.conftest import wait_ready

pytestmark = pytest.mark.integration


@contextmanager
def served(home: Path, cores: set[int] | None = None, **env: str) -> Iterator[dict[str, str]]:
    """The environment of a server that runs on ``home``, on ``cores`` only."""
    ports = ports_or_free([0] * 3)
    names = ("PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT")
    named = {f"SLIPSTREAM_{name}": str(port) for name, port in zip(names, ports, strict=True)}
    any_port = {"SLIPSTREAM_TRITON_METRICS_PORT": "0"}  # the facade says which; else the engine's gauges were missing
    environment = {**named, **any_port, "SLIPSTREAM_HOME": str(home), **env}
    log = home / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream.cli", "serve"],
            env=os.environ | environment, stdout=output, stderr=output, text=True,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )  # fmt: skip
        try:
            wait_ready(f"http://127.0.0.1:{ports[0]}", process, log)
            yield environment
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def profiled(folder: Path, environment: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """A profile of two users who ask for short answers."""
    asked = {
        "arrivals": {"kind": "closed", "users": 2, "think": 0.0},
        "prompts": {"kind": "jsonl", "path": "sample:fastapi-starlette"},
        "output": {"tokens": 24, "ignore_eos": True},
        "warmup": 0.0, "duration": 120.0, "requests": 12, "timeouts": {"stall": 100.0},
    }  # fmt: skip
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(asked | fields))
    done = subprocess.run(
        [sys.executable, "-m", "slipstream.cli", "profile", "run", str(path), "--json"],
        env=os.environ | dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_rule(profile: Mapping[str, Any], rule: str) -> dict[str, Any] | None:
    return next((finding for finding in profile["findings"] if finding["rule"] == rule), None)


def test_a_store_that_answers_late_is_named(own_home: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_home / "index")
    (tmp_path / "qdrant").mkdir()
    one_user = {"arrivals": {"kind": "closed", "users": 1, "think": 0.0}, "requests": 8}
    with fake_qdrant(tmp_path / "qdrant") as (url, qdrant):
        indexed = slipstream("index", str(ROOT / "loadtest" / "schedule"), home=own_home, QDRANT_URL=url)
        assert indexed.returncode == 0, indexed.stderr
        with served(own_home, QDRANT_URL=url, SLIPSTREAM_MIN_CONFIDENCE="0") as environment:
            before = profiled(tmp_path, environment, **one_user)
            assert of_rule(before, "slow_store") is None
            (ttft,) = [one for one in before["latencies_ms"] if one["stage"] == "TTFT"]
            late_s = max(0.4, 1.5e-3 * ttft["at_ms"][0])  # on a busy machine 0.4 s are nobody's cause
            make_late(qdrant, late_s)
            profile = profiled(tmp_path, environment, **one_user)
    found = of_rule(profile, "slow_store")
    assert found is not None, profile["findings"]
    (retrieve,) = [one for one in profile["stages_ms"] if one["stage"] == "retrieve"]
    assert retrieve["at_ms"][0] >= late_s * 1e3
    assert "retrieve takes" in found["evidence"][0]


def make_late(qdrant: FakeQdrant, seconds: float) -> None:
    """Whatever it is asked to find takes so much longer."""
    answer = qdrant.answer

    def late(method: str, path: str, body: Any) -> Any:
        if path.endswith("points/query/batch"):
            time.sleep(seconds)
        return answer(method, path, body)

    qdrant.answer = late  # type: ignore[method-assign]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_an_engine_without_processor_time_is_named(own_home: Path, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with served(own_home, {core}) as environment, ExitStack() as busy:
        for _ in range(2):
            busy.enter_context(spinning(core))
        profile = profiled(tmp_path, environment)
    found = of_rule(profile, "starved")
    assert found is not None, (profile["findings"], profile["machine"])
    assert "a generation ran in" in found["evidence"][0]


@contextmanager
def spinning(core: int) -> Iterator[None]:
    """A process that does nothing and needs all of ``core`` for it."""
    with subprocess.Popen(
        [sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {core})
    ) as process:
        try:
            yield
        finally:
            process.kill()


def test_the_stage_times_of_a_real_answer_are_its_time(own_home: Path, tmp_path: Path) -> None:
    with served(own_home) as environment:
        address = f"http://127.0.0.1:{environment['SLIPSTREAM_PORT']}"
        assert httpx.get(f"{address}/health/ready").status_code == 200
        profile = profiled(tmp_path, environment)
    assert profile["requests"]["failed"] == 0
    assert profile["agreement"]["joined"] == "one clock"
    assert abs(profile["agreement"]["accounted"][1] - 1) <= 0.03
    stages = [one["stage"] for one in profile["stages_ms"]]
    assert {"queue", "embed", "retrieve", "prompt", "prefill", "decode"} <= set(stages)
