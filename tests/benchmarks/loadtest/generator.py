"""How exact the load generator is on one core: send lag, TTFT against the mock's truth, CPU share, chunks lost.

    python -m tests.benchmarks.loadtest.generator [--streams 200] [--rate 50] [--seconds 20] [--arrivals 41]

The generator runs as `slipstream loadtest` runs it (Locust, headless) on core 0, the mock server on core 1. Arrivals of
a constant rate make ``--streams`` answers run at once, each of ``--rate`` chunks per second. With 40 arrivals
per second and 50 chunks, streams meet in 4 phases, so 50 chunks come in one moment and the last waits for the others;
with 41 their phases are spread, as those of independent clients are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from slipstream.loadtest.sample import Sample, read_samples

ROOT = Path(__file__).parents[3]
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]


def measure(folder: Path, streams: int, rate: float, seconds: float, arrivals: float) -> dict[str, Any]:
    """Run it once; the numbers by their names."""
    first_s, chunks = 0.2, round(rate * streams / arrivals)
    warmup_s = streams / arrivals + 1
    requests = round((warmup_s + seconds) * arrivals) + 1
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"request {n}"}) + "\n" for n in range(requests)))
    scenario = {
        "arrivals": {"kind": "constant", "rate": arrivals},
        "prompts": {"kind": "jsonl", "path": str(prompts)},
        "extra_body": {"mock": {"chunks": chunks, "rate": rate, "first_s": first_s}},
        "warmup": warmup_s,
        "duration": seconds,
    }
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    truth, samples = folder / "truth.jsonl", folder / "samples.jsonl"
    mock = subprocess.Popen(
        ["taskset", "-c", "1", sys.executable, "-m", "tests.loadtest.mock_server", "--truth", str(truth)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert mock.stdout is not None
    host = f"http://127.0.0.1:{int(mock.stdout.readline())}"
    options = ["--scenario", str(folder / "scenario.yaml"), "--host", host, "--samples", str(samples), "--progress"]
    try:
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            ["taskset", "-c", "0", *LOCUST, "--only-summary", *options], capture_output=True, text=True, check=True
        )
        wall, after = time.perf_counter() - began, os.times()
    finally:
        mock.terminate()
        mock.wait()
    start = json.loads(done.stdout.splitlines()[0])["monotonic"]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"cpu_share": round(cpu / wall, 3)} | compare(list(read_samples(samples)), truth, start, chunks)


def compare(samples: list[Sample], truth: Path, start: float, chunks: int) -> dict[str, Any]:
    """The samples against what the mock says it did; times in ms."""
    said = [json.loads(line) for line in truth.read_text().splitlines()]
    written = {one["prompt"]: one["first"] - start for one in said}
    measured = [sample for sample in samples if sample.measured]
    errors = np.array([
        sample.chunk_s[0] - written[f"request {int(sample.prompt.removeprefix('line-')) - 1}"]
        for sample in measured if sample.chunk_s
    ])  # fmt: skip
    lags = np.array([sample.lag_s for sample in measured])
    moments = np.sort(np.concatenate([sample.chunk_s for sample in samples]))
    half = (moments > np.quantile(moments, 0.4)) & (moments < np.quantile(moments, 0.6))
    return {
        "requests": len(measured),
        "not_ok": sum(sample.outcome != "ok" for sample in samples),
        "chunks_missing": sum(chunks - len(sample.chunk_s) for sample in samples),
        "chunks_per_s": round(float(half.sum() / np.ptp(moments[half]))),
        **_quantiles("lag_ms", lags),
        **_quantiles("ttft_error_ms", errors),
    }


def _quantiles(name: str, seconds: Any) -> dict[str, float]:
    return {f"{name}_p{level}": round(float(np.quantile(seconds, level / 100)) * 1e3, 3) for level in (50, 95, 99, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="chunks per second of a stream")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--arrivals", type=float, default=41.0, help="requests per second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.streams, arguments.rate, arguments.seconds, arguments.arrivals)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
