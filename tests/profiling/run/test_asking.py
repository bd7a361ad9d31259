"""Whether a server tells its stage times, found out with one question."""

import json
from typing import Any

import pytest

from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.run.asking import NoStageTimes, QuestionRefused, require_stage_times
from tests.loadtest.scripted import DONE, answering, delta, event, scripted, streaming

TOLD = {"stages": {"queue": 1.0}, "spans": []}


def scenario(**fields: Any) -> Scenario:
    return Scenario.model_validate({"arrivals": {"kind": "constant", "rate": 1}} | fields)


def whole(*headers: str) -> Any:
    return answering("200 OK", b'{"choices": [{"message": {"content": "a"}}]}', *headers)


def test_a_server_that_tells_them_streamed_or_in_a_header_is_taken() -> None:
    with scripted(streaming(event(delta("a")), event({"choices": [], "timing": TOLD}), DONE)) as server:
        require_stage_times(scenario(), server.host)
        require_stage_times(scenario(endpoint="completions"), server.host + "/v1")
    with scripted(whole(f"x-slipstream-timing: {json.dumps(TOLD)}")) as server:
        require_stage_times(scenario(stream=False), server.host)


@pytest.mark.parametrize(
    "script",
    [
        streaming(event(delta("a")), DONE),
        streaming(event(delta("a")), event({"choices": [], "timing": {"stages": {}}}), DONE),
        streaming(b"event: timing\ndata: generate;dur=80\n\n", event(delta("a")), DONE),
    ],
)
def test_a_server_that_tells_none_or_something_else_is_refused(script: Any) -> None:
    with scripted(script) as server, pytest.raises(NoStageTimes, match="tells no stage times"):
        require_stage_times(scenario(), server.host)


def test_a_header_of_another_kind_is_none() -> None:
    with scripted(whole("x-slipstream-timing: queue;dur=3")) as server, pytest.raises(NoStageTimes):
        require_stage_times(scenario(stream=False), server.host)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        ("401 Unauthorized", b'{"error": {"message": "not yours"}}', "not yours"),
        ("500 Internal Server Error", b"<html>oops</html>", "oops"),
    ],
)
def test_a_question_that_is_refused_is_told_with_the_servers_words(status: str, body: bytes, says: str) -> None:
    with scripted(answering(status, body)) as server, pytest.raises(QuestionRefused, match=says):
        require_stage_times(scenario(), server.host)


def test_a_server_that_goes_away_is_told() -> None:
    with scripted(lambda connection: None) as server, pytest.raises(QuestionRefused, match="does not answer"):
        require_stage_times(scenario(), server.host)
