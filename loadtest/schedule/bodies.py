"""The JSON that a request posts: OpenAI's chat or text completion, and what the scenario adds to it."""

import json
from typing import Any

from slipstream import InputError
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.prompts import Prompt


class ExtraBodyInvalid(InputError):
    """``extra_body`` cannot be sent, or says what another key of the scenario decides."""


def body_of(scenario: Scenario, prompt: Prompt, max_tokens: int | None, sampling_seed: int) -> dict[str, Any]:
    """What to post for ``prompt``.

    A greedy answer needs no seed: ``sampling_seed`` is sent where the temperature is above 0.
    ``extra_body`` comes last and wins.
    """
    output = scenario.output
    body: dict[str, Any] = {"model": scenario.model, **prompt.asked, "stream": scenario.stream}
    if scenario.stream:
        body["stream_options"] = {"include_usage": True}  # the last chunk then counts the tokens
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    body["temperature"] = output.temperature
    if output.temperature > 0:
        body["seed"] = sampling_seed
    if output.ignore_eos:
        body["ignore_eos"] = True
    return body | scenario.extra_body


def check_extra_body(extra: dict[str, Any]) -> None:
    """Whether ``extra`` can go into every body.

    Raises:
        ExtraBodyInvalid: see there.
    """
    if "stream" in extra:  # the client reads the answer by what the scenario says
        raise ExtraBodyInvalid("extra_body.stream is decided elsewhere", "write stream beside extra_body, not in it")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ExtraBodyInvalid(f"extra_body is no JSON: {error}", "write dates and the like in quotes") from error


__all__ = ["ExtraBodyInvalid", "body_of", "check_extra_body"]
