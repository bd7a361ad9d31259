"""Comparisons that ran, as their folder holds them: simulated requests, and what `compare` writes of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from slipstream.loadtest.comparison.measures import values_of
from slipstream.loadtest.comparison.record import Record, RunRecord
from slipstream.loadtest.comparison.rounds import turns
from slipstream.loadtest.comparison.sides import Side
from tests.loadtest.report.served import judged, scenario, served

A = Side("A", "75e6", bundle="/b/75e68665210cfcce", bundle_id="75e68665210cfcce", release="production-v0.1-gptq")
B = Side("B", "http://127.0.0.1:8081", url="http://127.0.0.1:8081")


def record(root: Path = Path(), *, rounds: int = 8, runs: tuple[RunRecord, ...] = (), **changes: Any) -> Record:
    """One without any files."""
    load = scenario(duration=20, warmup=2)
    begun = Record(
        root=root, a=A, b=B, scenario=load, rounds=rounds, margin=0.05,
        golden="sample:fastapi-starlette", tokenizer="", started_at="2026-11-22T10:15:00+00:00", version="0.1.0",
        host={"CPU": "AMD EPYC", "cores": "2"}, notes=(),
        commands=("slipstream compare 75e6 http://127.0.0.1:8081",), runs=runs,
    )  # fmt: skip
    return replace(begun, **changes)


def ran(root: Path, *, rounds: int = 8, slower: float = 1.0, golden: float = 0.6) -> Record:
    """Every round complete, with samples; B takes ``slower`` times as long and passes ``golden`` of the questions."""
    done = record(root, rounds=rounds)
    for turn in turns(rounds, 132, own_seeds=False):
        load = done.scenario.model_copy(update={"seed": turn.seed})
        samples = served(load, seed=turn.seed, slow=0.0)
        if turn.letter == "B":
            for sample in samples:
                sample.chunk_s = [sample.sent_s + slower * (one - sample.sent_s) for one in sample.chunk_s]
                sample.end_s = sample.sent_s + slower * (sample.end_s - sample.sent_s)
        folder = root / f"round-{turn.round:02}-{turn.letter}"
        folder.mkdir(parents=True)
        (folder / "samples.jsonl").write_text("".join(sample.to_line() + "\n" for sample in samples))
        rate = golden if turn.letter == "B" else 0.6
        values = values_of(load, judged(load, samples)) | {"golden_pass_rate": rate, "golden_text_rate": rate}
        done = done.with_run(
            RunRecord(
                turn.round,
                turn.letter,
                turn.seed,
                folder.name,
                "complete",
                values=values,
                questions={"trusted-host": 1.0, "session-cookie": rate},
                bundle_digest="75e68665210cfcce" if turn.letter == "A" else "fe8a7c452f23d1df",
                index_digest="20261122T005207-71e41aab",
                started_at="2026-11-22T10:15:00+00:00",
                took_s=31.5,
            )
        )
    done.write()
    return done


__all__ = ["A", "B", "ran", "record"]
