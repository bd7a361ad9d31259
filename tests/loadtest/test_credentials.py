"""The key for a server, as environments bring it: never in a message."""

import pytest

from slipstream import InputError, SlipstreamError
from slipstream.loadtest.credentials import API_KEY, api_key, authorization
from slipstream.loadtest.preparation import asked
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.sending.client import Client
from slipstream.profiling.run.asking import require_stage_times
from tests.loadtest.scripted import answering, scripted

SECRET = "sk-secret"


@pytest.mark.parametrize("given", [f"{SECRET}\n", f"{SECRET}\r\n", f" {SECRET}\t", SECRET])
def test_white_space_around_the_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(API_KEY, given)
    assert authorization() == {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize("given", ["", "\n", "  "])
def test_a_key_of_nothing_is_none(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(API_KEY, given)
    assert (api_key(), authorization()) == (None, {})


@pytest.mark.parametrize("inside", ["\n", "\r\nX-More: 1", "\t", "\x1b", "\x7f", "é", "\u2028", "\udcff"])
def test_a_key_that_no_header_can_bring_is_refused_and_said_nowhere(
    monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv(API_KEY, f"{SECRET}{inside}rest")
    scenario = Scenario.model_validate({"arrivals": {"kind": "constant", "rate": 1}})
    with scripted(answering("200 OK", b"{}")) as server:
        for use in (
            lambda: asked(server.host),
            lambda: require_stage_times(scenario, server.host),
            lambda: Client(scenario, server.host, api_key()),
        ):
            with pytest.raises(InputError, match="no header may have") as caught:
                use()
            said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {caught.value.remedy}"
            assert SECRET not in said
            assert API_KEY in said


def test_a_key_from_a_file_with_a_line_break_reaches_the_server_and_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(API_KEY, f"{SECRET}\n")
    scenario = Scenario.model_validate({"arrivals": {"kind": "constant", "rate": 1}})
    with (
        scripted(answering("401 Unauthorized", b'{"error": {"message": "not yours"}}')) as server,
        pytest.raises(SlipstreamError, match="not yours") as caught,
    ):
        require_stage_times(scenario, server.host)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
