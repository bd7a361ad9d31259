"""Before a load: whether the server tells its stage times at all."""

from typing import Any

import httpx

from slipstream import EnvironmentFault, InputError
from slipstream.loadtest.credentials import authorization
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.sending.answers import Stream, error_in
from slipstream.loadtest.sending.client import ENDPOINTS
from slipstream.loadtest.sending.timing import ASKING, header_timing, stages_of

_QUESTION = "Where does the program start?"
_PATIENCE_S = 120.0  # an engine that was just started reads its first prompt slowly


class NoStageTimes(InputError):
    """The server answers, and says nothing of its stages."""


class QuestionRefused(EnvironmentFault):
    """The server does not answer a question as the scenario asks it."""


def require_stage_times(scenario: Scenario, url: str) -> None:
    """Ask one short question.

    Raises:
        QuestionRefused: it is not answered.
        NoStageTimes: the answer has no stage times.
    """
    address = url.rstrip("/").removesuffix("/v1") + ENDPOINTS[scenario.endpoint]
    headers = {**authorization(), ASKING: "1"}
    try:
        answer = httpx.post(address, json=_body(scenario), headers=headers, timeout=_PATIENCE_S, trust_env=False)
    except httpx.HTTPError as error:
        raise QuestionRefused(f"{url} does not answer a question: {error!r}", "look at the server's log") from error
    if answer.status_code != 200:
        said = f"HTTP {answer.status_code}: {_said(answer)}"
        raise QuestionRefused(f"{url} does not answer a question: {said}", "try it with: slipstream ask")
    if not _stages(answer, is_streamed=scenario.stream):
        raise NoStageTimes(
            f"the server at {url} tells no stage times: its answer to the header {ASKING} has none",
            "profile a Slipstream of this version or later, with spans on; slipstream loadtest loads any server",
        )


def _body(scenario: Scenario) -> dict[str, Any]:
    asked = (
        {"messages": [{"role": "user", "content": _QUESTION}]} if scenario.endpoint == "chat" else {"prompt": _QUESTION}
    )
    return {"model": scenario.model, **asked, "max_tokens": 2, "stream": scenario.stream, **scenario.extra_body}


def _said(answer: httpx.Response) -> str:
    try:
        return error_in(answer.json())
    except (ValueError, RecursionError):
        return answer.text.strip()[:200]


def _stages(answer: httpx.Response, *, is_streamed: bool) -> dict[str, float]:
    if not is_streamed:
        return stages_of(header_timing(answer.headers.get(ASKING, "")))
    stream = Stream()
    stream.feed(0.0, answer.content)
    stream.close(0.0)
    return stages_of(stream.answer.timing)


__all__ = ["NoStageTimes", "QuestionRefused", "require_stage_times"]
