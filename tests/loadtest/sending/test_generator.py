"""Requests go out when they are due, whatever became of those before."""

import gc
import json
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import pytest

from slipstream.loadtest.results.counting import count_tokens
from slipstream.loadtest.sample import Sample, read_samples
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.plan import draw
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.sending.client import Client
from slipstream.loadtest.sending.generator import Generator
from slipstream.loadtest.sending.recording import Files, Recorder
from tests.loadtest.scripted import DONE, answering, delta, event, scripted, streaming

ROOT = Path(__file__).parents[3]


class Run:
    """A scenario, sent in this process."""

    def __init__(self, folder: Path, host: str, **fields: Any) -> None:
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(f'{{"prompt": "p{number}"}}\n' for number in range(50)))
        base = {"prompts": {"kind": "jsonl", "path": str(prompts)}, "warmup": 0, "duration": 1.0, "seed": 7}
        self.plan = draw(Scenario.model_validate(base | fields))
        self.path, self.answers = folder / "samples.jsonl", folder / "answers.jsonl"
        self.files, self.told = Files(self.path, self.answers), list[Sample]()
        client = Client(self.plan.scenario, host)
        recorder = Recorder(self.files.write, self.told.append, is_streamed=self.plan.scenario.stream, worker=0)
        self.generator, self.recorder = Generator(self.plan, client, recorder), recorder

    def go(self, stop_after_s: float | None = None) -> list[Sample]:
        gc.freeze()  # a test process holds far more than a generator's does, and collecting that takes a second
        begun = perf_counter()
        if stop_after_s is not None:
            gevent.spawn_later(stop_after_s, self.generator.stop)
        self.generator.run(perf_counter() + 0.05)
        self.took_s = perf_counter() - begun
        self.files.close()
        assert len(self.told) == self.recorder.tally.ended == self.recorder.tally.sent
        return sorted(read_samples(self.path), key=lambda sample: sample.index)


def mock(**says: Any) -> dict[str, Any]:
    return {"mock": {"chunks": 4, "rate": 100, "first_s": 0.01} | says}


def test_late_answers_delay_no_arrival(tmp_path: Path, mock_host: str) -> None:
    run = Run(
        tmp_path, mock_host, arrivals={"kind": "poisson", "rate": 40}, extra_body=mock(first_s=0.8), warmup=0.25
    )  # fmt: skip
    samples = run.go()
    assert [sample.scheduled_s for sample in samples] == pytest.approx([one.scheduled_s for one in run.plan.arrivals])
    assert {sample.outcome for sample in samples} == {"ok"}
    assert [sample.measured for sample in samples] == [sample.scheduled_s >= 0.25 for sample in samples]
    # All are in flight before the first is answered; if one waited for another, its lag would be 0.8 s.
    assert all(0 <= sample.lag_s < 0.3 for sample in samples)
    assert sorted(sample.lag_s for sample in samples)[len(samples) // 2] < 0.02
    assert max(sample.end_s for sample in samples) > 1.25  # what was in flight at the end was waited for


def test_what_the_generator_itself_was_late_by_shows_as_lag(tmp_path: Path, mock_host: str) -> None:
    run = Run(tmp_path, mock_host, arrivals={"kind": "constant", "rate": 20}, extra_body=mock())

    def hold_the_loop() -> None:
        until = perf_counter() + 0.3
        while perf_counter() < until:
            pass

    gevent.spawn_later(0.3, hold_the_loop)
    assert max(sample.lag_s for sample in run.go()) > 0.2


def test_a_stopped_run_cuts_off_what_is_in_flight_and_sends_no_more(tmp_path: Path, mock_host: str) -> None:
    arrivals = {"kind": "constant", "rate": 20}
    run = Run(tmp_path, mock_host, arrivals=arrivals, extra_body=mock(chunks=500, rate=50), duration=30)
    samples = run.go(stop_after_s=0.6)
    assert run.took_s < 15
    assert 3 <= len(samples) < 100  # of 600
    assert {sample.outcome for sample in samples} == {"cut_off"}
    assert all(sample.chunk_s for sample in samples[:3])  # what came before is kept
    assert run.recorder.tally.errors == 0


def test_users_ask_again_when_they_have_their_answer_and_thought(tmp_path: Path, mock_host: str) -> None:
    closed = {"kind": "closed", "users": 3, "think": 0.05, "think_distribution": "constant"}
    run = Run(tmp_path, mock_host, arrivals=closed, extra_body=mock(), warmup=0.3)
    samples = run.go()
    for user in range(3):
        mine = [sample for sample in samples if sample.index % 3 == user]
        assert len(mine) > 4
        for before, after in pairwise(mine):
            assert after.scheduled_s == pytest.approx(before.end_s + 0.05, abs=1e-5)
    assert {sample.measured for sample in samples} == {False, True}
    assert all(sample.measured == (sample.scheduled_s >= 0.3) for sample in samples)
    assert max(sample.scheduled_s for sample in samples) < 1.3


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        ("503 Busy", b"{}", "unavailable"),
        ("401 Unauthorized", b"{}", "client_error"),
        ("200 OK", b"data: {nonsense\n\n", "malformed"),
        ("200 OK", b"<html>hello</html>", "malformed"),
        ("200 OK", DONE, "empty"),
        ("204 No Content", b"", "malformed"),
    ],
)
def test_users_of_a_server_that_says_no_or_nonsense_do_not_ask_as_fast_as_they_can(
    tmp_path: Path, status: str, body: bytes, outcome: str
) -> None:
    with scripted(answering(status, body, "Retry-After: 1")) as server:
        samples = Run(tmp_path, server.host, arrivals={"kind": "closed", "users": 2}).go()
    assert {sample.outcome for sample in samples} == {outcome}
    assert 4 <= len(samples) <= 24


def test_users_of_a_quick_server_ask_as_fast_as_it_answers(tmp_path: Path) -> None:
    with scripted(streaming(event(delta("a")), DONE)) as server:
        samples = Run(tmp_path, server.host, arrivals={"kind": "closed", "users": 2}).go()
    assert {sample.outcome for sample in samples} == {"ok"}
    assert len(samples) > 24


def test_users_of_a_dead_server_do_not_ask_as_fast_as_they_can(tmp_path: Path) -> None:
    run = Run(tmp_path, "http://127.0.0.1:9", arrivals={"kind": "closed", "users": 2})
    samples = run.go()
    assert {sample.outcome for sample in samples} == {"refused"}
    assert 4 <= len(samples) <= 24
    assert run.recorder.tally.errors == len(samples)


def test_the_collector_is_as_it_was_after_a_run(tmp_path: Path, mock_host: str) -> None:
    Run(tmp_path, mock_host, arrivals={"kind": "constant", "rate": 20}, extra_body=mock(), duration=0.2).go()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_tokens_of_kept_answers_are_counted_afterwards(
    tmp_path: Path, mock_host: str, tokenizer: ServerTokenizer
) -> None:
    run = Run(tmp_path, mock_host, arrivals={"kind": "constant", "rate": 10}, extra_body=mock(), duration=0.5)
    samples = run.go()
    assert count_tokens(run.path, run.answers, tokenizer) == len(samples)
    counted = tokenizer.count(" word" * 4)
    assert [sample.counted_tokens for sample in read_samples(run.path)] == [counted] * len(samples)


def test_halves_of_a_character_are_one_and_a_lone_one_is_counted_too(
    tmp_path: Path, tokenizer: ServerTokenizer
) -> None:
    parts = (b"\\ud83d", b"\\ude00", b"\\ud800")
    halves = (event(b'{"choices": [{"delta": {"content": "' + half + b'"}}]}') for half in parts)
    with scripted(streaming(*halves, DONE)) as server:
        run = Run(tmp_path, server.host, arrivals={"kind": "constant", "rate": 10}, duration=0.15)
        samples = run.go()
    assert {json.loads(line)["text"] for line in run.answers.read_text().splitlines()} == {
        "\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"
    }
    assert count_tokens(run.path, run.answers, tokenizer) == len(samples) == 2
