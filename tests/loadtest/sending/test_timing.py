"""What a server tells of its own times: read where it is what it should be, and never an error."""

import json
import socket
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

from slipstream.loadtest.sample import Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.planned import Planned
from slipstream.loadtest.sending.client import Client, Exchange
from slipstream.loadtest.sending.reading import read
from tests.loadtest.scripted import DONE, HEAD, answering, delta, event, scripted, streaming, take_request

WHOLE = (event(delta()), event(delta("Hello")), event(delta(" you")), event(delta("", "stop")), DONE)
PLANNED = Planned(0, 0.0, "q1", {"messages": [{"role": "user", "content": "Where?"}]}, True, None)


def scenario(**fields: Any) -> Scenario:
    return Scenario.model_validate({"arrivals": {"kind": "constant", "rate": 1}} | fields)


def asked(host: str, **fields: Any) -> tuple[Sample, str]:
    wanted = scenario(**fields)
    client, start = Client(wanted, host), perf_counter()
    exchange = client.ask(Exchange(PLANNED, start, measured=True))
    client.close()
    found = read(exchange, start, is_streamed=wanted.stream, worker=0, with_spans=wanted.stage_times == "spans")
    ((sample, answer),) = [one for one in found if one is not None]
    return sample, "".join(answer.texts)


TIMING = {
    "id": "chatcmpl-1", "request_id": "r-\ud800", "received_unix_s": 1.5, "ttft_ms": 12.5, "end_to_end_ms": 40.0,
    "stages": {"queue": 2.5, "retrieve": 10, "decode": 27.5, "broken": "soon", "never": -1, "": 1, "yes": True},
    "spans": [["queue", 0, 2.5], ["retrieve", 2.5, 10], ["decode", 12.5, None], ["decode"], "x", [1, 2, 3]],
    "beside": [1], "decode_steps": 1, "cached_prompt_tokens": "many", "more": {"of": "it"},
}  # fmt: skip


def test_the_times_of_an_answer_come_in_an_event_without_content_and_disturb_nothing() -> None:
    told = event({"choices": [], "timing": TIMING})
    with scripted(streaming(*WHOLE[:-1], told, DONE, gap_s=0.02)) as server:
        sample, text = asked(server.host, stage_times="spans")
        plain, _ = asked(server.host)
    assert (sample.outcome, text, len(sample.chunk_s), sample.finish_reason) == ("ok", "Hello you", 2, "stop")
    assert sample.stages_s == plain.stages_s == {"queue": 0.0025, "retrieve": 0.01, "decode": 0.0275}
    assert plain.timing is None
    assert sample.timing == {
        "id": "chatcmpl-1", "request_id": "r-\ufffd", "received_unix_s": 1.5, "ttft_ms": 12.5, "end_to_end_ms": 40.0,
        "decode_steps": 1, "stages": {"queue": 2.5, "retrieve": 10.0, "decode": 27.5}, "beside": {},
        "spans": [["queue", 0, 2.5], ["retrieve", 2.5, 10]],
    }  # fmt: skip
    assert Sample(**json.loads(sample.to_line().encode())) == replace(
        sample, chunk_s=[round(moment, 6) for moment in sample.chunk_s],
        **{name: round(getattr(sample, name), 6) for name in ("scheduled_s", "sent_s", "end_s", "connect_s")},
    )  # fmt: skip


def test_the_times_of_an_answer_in_one_piece_come_in_a_header() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).encode()
    told = f"x-slipstream-timing: {json.dumps({'stages': {'queue': 2.5}, 'ttft_ms': 3.0})}"
    with scripted(answering("200 OK", body, told)) as server:
        sample, _ = asked(server.host, stream=False, stage_times="spans")
    assert (sample.outcome, sample.stages_s) == ("ok", {"queue": 0.0025})
    assert sample.timing == {"ttft_ms": 3.0, "stages": {"queue": 2.5}, "beside": {}, "spans": []}


@pytest.mark.parametrize(
    "told",
    [
        None, 7, "soon", [], {}, {"stages": None}, {"stages": [1]}, {"stages": {"queue": None}}, {"spans": 3},
        {"stages": {"queue": 10**400}}, {"stages": {"queue": float("nan")}}, {"stages": {"queue": float("inf")}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("keeps", [True, "spans"])
def test_what_is_no_timing_is_no_error_either(told: Any, keeps: Any) -> None:
    with scripted(streaming(*WHOLE[:-1], event({"choices": [], "timing": told}), DONE)) as server:
        sample, text = asked(server.host, stage_times=keeps)
    assert (sample.outcome, text, sample.stages_s) == ("ok", "Hello you", {})
    head = HEAD[:-2] + f"x-slipstream-timing: {json.dumps(told)}\r\n\r\n".encode()
    with scripted(streaming(*WHOLE, head=head)) as server:
        sample, _ = asked(server.host, stage_times=keeps)
    assert (sample.outcome, sample.stages_s) == ("ok", {})


@pytest.mark.parametrize("absurd", [1e300, 2e12, pytest.param(10**400, id="10**400")])
def test_a_number_that_is_no_time_is_not_kept(absurd: float) -> None:
    told = {
        "received_unix_s": absurd, "ttft_ms": absurd, "end_to_end_ms": 40.0, "decode_steps": absurd,
        "stages": {"queue": 2.5, "decode": absurd}, "beside": {"stream": absurd},
        "spans": [["queue", 0, 2.5], ["decode", 2.5, absurd], ["decode", absurd, 1]],
    }  # fmt: skip
    with scripted(streaming(*WHOLE[:-1], event({"choices": [], "timing": told}), DONE)) as server:
        sample, _ = asked(server.host, stage_times="spans")
    assert sample.stages_s == {"queue": 0.0025}
    assert sample.timing == {
        "end_to_end_ms": 40.0, "stages": {"queue": 2.5}, "beside": {}, "spans": [["queue", 0, 2.5]],
    }  # fmt: skip


@pytest.mark.parametrize("wanted", [True, False, "spans"])
def test_a_server_is_asked_for_its_times_unless_the_scenario_says_no(wanted: Any) -> None:
    heads: list[str] = []

    def script(connection: socket.socket) -> None:
        heads.append(take_request(connection)[0])

    with scripted(script) as server:
        client = Client(scenario(stage_times=wanted), server.host)
        client.ask(Exchange(PLANNED, perf_counter(), measured=True))
        client.close()
    assert ("x-slipstream-timing: 1\r\n" in heads[0].lower()) == (wanted is not False)
