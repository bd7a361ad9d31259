"""The load test's TTFT and TPOT beside those of an independent tool, NVIDIA's AIPerf, on the same server.

    python -m tests.benchmarks.loadtest.crosscheck [--rounds 6] [--requests 20] [--rate 1] [--prompt 256] [--output 48]

One server of the active bundle, two tools in turn (A B, B A, ...). Both send the same kind of bodies at the same
constant rate: synthetic prompts of the same length, each seen once by the server, so that no prefix cache helps the
second; the same number of output tokens, which `ignore_eos` makes exact; greedy. AIPerf replays bodies that we drew. Of
each run the first requests are left out. What is compared is the median of a run, and the run is the unit.

Definitions. TTFT: ours counts from the moment at which the client turns to the request, before it connects, to the
first non-empty content; AIPerf's from the start of the request to the first response with content. TPOT: ours is (last
byte - first content) / (output tokens - 1); AIPerf's "inter token latency" is (last content - first content) / (output
tokens - 1), so ours holds what follows the last content (finish reason, usage, ``[DONE]``), once per answer. Tokens are
what `usage` says, for both.

The server shares the machine with the tool, so a tool that takes more processor time slows what it measures. The server
writes its own TTFT and TPOT of every request into its log: what each tool read is also held against what the server
says of the very same requests, which is free of that.

AIPerf is installed into an environment of its own below ``.cache/crosscheck`` (1.2 GB), at the version below.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from slipstream.ensemble.bundle import find_bundle
from slipstream.loadtest.preparation import prepare
from slipstream.loadtest.run import conclude, generate
from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import draw
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.statistics.bootstrap import paired_effect
from slipstream.settings import Settings
from tests.benchmarks.served import machine, serve

AIPERF = "0.13.0"
BOUND = 0.05
_WARM_UP = 3
"""Requests of each run that are left out: the tools' first connections, and the server's first turn after a pause."""


@dataclass(frozen=True)
class Run:
    """One run of one tool.

    Attributes:
        ttft_ms, tpot_ms: medians.
        server_ttft_ms, server_tpot_ms: medians of what the server says of the same requests.
        tail_ms: from the last content to the last byte, the median; NaN where the tool does not keep it.
        output_tokens, prompt_tokens: of all requests; each run has the same.
        cpu_s: processor time of the tool, with its start.
    """

    ttft_ms: float
    tpot_ms: float
    server_ttft_ms: float
    server_tpot_ms: float
    tail_ms: float
    output_tokens: int
    prompt_tokens: int
    cpu_s: float


class ServerLog:
    """What the server says of the requests since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def medians(self, requests: int) -> tuple[float, float]:
        """TTFT and TPOT in ms of the ``requests`` new ones, the first `_WARM_UP` left out."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines[self._read :] if '"event": "request"' in line]
        self._read = len(lines)
        said = [one for one in said if "ttft_s" in one]
        assert len(said) == requests, f"the server tells of {len(said)} requests, not {requests}"
        counted = said[_WARM_UP:]
        return median(one["ttft_s"] for one in counted) * 1e3, median(one["tpot_s"] for one in counted) * 1e3


def scenario(given: argparse.Namespace, seed: int) -> Scenario:
    """Constant arrivals of synthetic prompts."""
    fields: dict[str, Any] = {
        "name": "crosscheck",
        "arrivals": {"kind": "constant", "rate": given.rate},
        "prompts": {"kind": "synthetic", "tokens": given.prompt},
        "output": {"tokens": given.output, "ignore_eos": True},
        "model": "slipstream-base",
        "warmup": 0.0,
        "duration": None,
        "requests": given.requests + _WARM_UP,
        "seed": seed,
    }
    return Scenario.model_validate(fields)


def ours(given: argparse.Namespace, url: str, tokenizer: Path, seed: int, into: Path, log: ServerLog) -> Run:
    """One run of `slipstream loadtest`'s generator."""
    folder = prepare(scenario(given, seed), url, Settings(), tokenizer, into)
    before = _children_s()
    generate(folder, url, lambda state: None)
    cpu_s = _children_s() - before
    result = conclude(folder)
    assert not result.void_because, result.void_because
    samples = [one for one in read_samples(folder.samples) if one.index >= _WARM_UP]
    assert all(one.outcome == "ok" for one in samples), [one.outcome for one in samples]
    server_ttft_ms, server_tpot_ms = log.medians(len(samples) + _WARM_UP)
    return Run(
        ttft_ms=median(one.chunk_s[0] - one.sent_s for one in samples) * 1e3,
        tpot_ms=median((one.end_s - one.chunk_s[0]) / ((one.output_tokens or 0) - 1) for one in samples) * 1e3,
        server_ttft_ms=server_ttft_ms,
        server_tpot_ms=server_tpot_ms,
        tail_ms=median(one.end_s - one.chunk_s[-1] for one in samples) * 1e3,
        output_tokens=sum(one.output_tokens or 0 for one in samples),
        prompt_tokens=sum(one.prompt_tokens or 0 for one in samples),
        cpu_s=cpu_s,
    )


def theirs(
    given: argparse.Namespace, url: str, tokenizer: Path, seed: int, into: Path, log: ServerLog, program: Path
) -> Run:
    """One run of AIPerf with the bodies that we would have sent."""
    into.mkdir(parents=True)
    plan = draw(scenario(given, seed), ServerTokenizer(tokenizer))
    bodies = into / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(one.body) + "\n" for one in plan.arrivals), encoding="utf-8")
    command = [
        *(str(program), "profile", "--model", "slipstream-base", "--url", url, "--endpoint-type", "chat"),
        *("--streaming", "--custom-dataset-type", "raw-payload", "--input-file", str(bodies)),
        *("--dataset-sampling-strategy", "sequential", "--request-rate", f"{given.rate:g}"),
        *("--arrival-pattern", "constant", "--request-count", str(len(plan.arrivals)), "--use-server-token-count"),
        *("--tokenizer", str(_hf_tokenizer(tokenizer, into / "tokenizer")), "--artifact-dir", str(into / "artifacts")),
        *("--ui", "none", "--no-server-metrics", "--no-gpu-telemetry", "--workers-max", "1"),
        *("--record-processors", "1"),
    ]
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"}
    before = _children_s()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    cpu_s = _children_s() - before
    records = next(iter((into / "artifacts").rglob("profile_export.jsonl")), None)
    if done.returncode or records is None:
        raise RuntimeError(f"aiperf ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    found = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    found.sort(key=lambda one: one["metadata"]["request_start_ns"])
    assert len(found) == len(plan.arrivals), f"{len(found)} of {len(plan.arrivals)} requests were recorded"
    metrics = [one["metrics"] for one in found[_WARM_UP:]]
    server_ttft_ms, server_tpot_ms = log.medians(len(found))
    return Run(
        ttft_ms=median(_ms(one["time_to_first_token"]) for one in metrics),
        tpot_ms=median(_ms(one["inter_token_latency"]) for one in metrics),
        server_ttft_ms=server_ttft_ms,
        server_tpot_ms=server_tpot_ms,
        tail_ms=float("nan"),
        output_tokens=sum(int(one["output_sequence_length"]["value"]) for one in metrics),
        prompt_tokens=sum(int(one["usage_prompt_tokens"]["value"]) for one in metrics if "usage_prompt_tokens" in one),
        cpu_s=cpu_s,
    )


def _ms(found: dict[str, Any]) -> float:
    """A value with its unit, in ms."""
    return float(found["value"]) * {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "sec": 1e3}[found["unit"]]


def _hf_tokenizer(source: Path, folder: Path) -> Path:
    """The tokenizer as a folder that `transformers` opens; AIPerf wants one even where it counts nothing."""
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def aiperf(cache: Path) -> Path:
    """The program, installed below ``cache`` unless it is there already."""
    home = cache / f"aiperf-{AIPERF}"
    program = home / "bin" / "aiperf"
    if not program.is_file():
        print(f"installing aiperf {AIPERF} into {home}")
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", f"aiperf=={AIPERF}"]
        subprocess.run(pip, check=True)
    return program


def table(pairs: Sequence[tuple[Run, Run]]) -> tuple[str, bool]:
    """Markdown of (theirs, ours) of each round, and whether both tools read the same of the same requests."""
    lines = ["| mean of the runs' medians | AIPerf | slipstream loadtest | ours / theirs |", "|---|---|---|---|"]
    agree = True
    for name, key in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms")):
        read, said = (
            [[float(getattr(pair[side], which)) for pair in pairs] for side in (0, 1)]
            for which in (key, f"server_{key}")
        )
        shares = [[one / other for one, other in zip(read[side], said[side], strict=True)] for side in (0, 1)]
        lines.append(_row(f"{name}, ms", *read)[0])
        lines.append(_row(f"{name} that the server says of the same requests, ms", *said)[0])
        line, value = _row(f"{name} read / said", *shares)
        lines.append(line)
        agree &= abs(value) <= BOUND
    return "\n".join(lines), agree


def _row(name: str, theirs: Sequence[float], ours: Sequence[float]) -> tuple[str, float]:
    """A line, and ours over theirs less 1."""
    effect = paired_effect(theirs, ours, share=True)
    value = effect.value or 0.0
    bounds = "" if effect.low is None or effect.high is None else f" [{1 + effect.low:.3f}–{1 + effect.high:.3f}]"
    return f"| {name} | {_spread(theirs)} | {_spread(ours)} | {1 + value:.3f}{bounds} |", value


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):,.2f} ({min(values):,.2f}–{max(values):,.2f})"


def _facts(pairs: Sequence[tuple[Run, Run]]) -> str:
    their, our = ([pair[side] for pair in pairs] for side in (0, 1))
    tokens = [{(one.prompt_tokens, one.output_tokens) for one in runs} for runs in (their, our)]
    return (
        f"prompt and output tokens of a run: AIPerf {sorted(tokens[0])}, ours {sorted(tokens[1])}\n"
        f"last content to last byte, ours: {median(one.tail_ms for one in our):.2f} ms an answer\n"
        f"processor time of a run: AIPerf {median(one.cpu_s for one in their):.1f} s, "
        f"ours {median(one.cpu_s for one in our):.1f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="pairs of runs; 6 are the fewest with an interval")
    parser.add_argument("--requests", type=int, default=20, help="of each run, counted")
    parser.add_argument("--rate", type=float, default=1.0, help="requests per second")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--json", type=Path, help="write every run there, too")
    given = parser.parse_args()
    settings = Settings()
    cache = settings.cache_dir if "SLIPSTREAM_HOME" in os.environ else Path(".cache").resolve()
    program = aiperf(cache / "crosscheck")
    tokenizer = find_bundle(settings.bundles_dir).tokenizer_dir
    print(f"machine: {machine()}; aiperf {AIPERF}")
    print(f"{given.rate:g} requests/s, {given.prompt} tokens in, {given.output} out")
    pairs: list[tuple[Run, Run]] = []
    with TemporaryDirectory() as name, serve(Path(name) / "serve.log") as server:
        url, log = f"http://{server.host}:{server.port}", ServerLog(Path(name) / "serve.log")
        for number in range(given.rounds):
            at = Path(name) / f"round-{number}"
            runs: dict[str, Run] = {}
            for place, side in enumerate(("theirs", "ours") if number % 2 else ("ours", "theirs")):
                seed = 1000 + 2 * number + place
                if side == "ours":
                    runs[side] = ours(given, url, tokenizer, seed, at / side, log)
                else:
                    runs[side] = theirs(given, url, tokenizer, seed, at / side, log, program)
                print(f"round {number + 1} {side:6} {runs[side]}", flush=True)
            pairs.append((runs["theirs"], runs["ours"]))
    told, agree = table(pairs)
    word = f"{'PASS' if agree else 'FAIL'}: of the same requests both tools read the same within {BOUND:.0%}"
    print(f"\n{told}\n\n{word}\n{_facts(pairs)}")
    if given.json:
        written = [{"aiperf": vars(their), "ours": vars(our)} for their, our in pairs]
        given.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
