"""Golden questions put to a server after its load, so that every comparison judges answers, whatever its load asks.

They are asked greedily and a few at a time, and nothing of it is timed. Answers are kept in ``golden.jsonl`` beside
the run's samples.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from slipstream.loadtest.credentials import authorization
from slipstream.loadtest.scenario import Output, Scenario
from slipstream.loadtest.schedule.bodies import body_of
from slipstream.loadtest.schedule.prompts import Prompt, read_golden
from slipstream.loadtest.sending.answers import Answer, Stream, error_in, read_whole

ANSWER_TOKENS = 128
STREAMS = 4


def ask(url: str, scenario: Scenario, body: dict[str, Any]) -> Answer:
    """Post ``body`` and read what comes; an answer without texts says in ``error`` or ``fault`` why it has none."""
    path = "/v1/chat/completions" if scenario.endpoint == "chat" else "/v1/completions"
    timeouts = httpx.Timeout(scenario.timeouts.total, connect=scenario.timeouts.connect)
    try:
        response = httpx.post(f"{url}{path}", json=body, headers=authorization(), timeout=timeouts, trust_env=False)
    except httpx.HTTPError as error:
        return Answer(error=f"{type(error).__name__}: {error}")
    if response.status_code != 200:
        return Answer(error=f"HTTP {response.status_code}: {_error(response)}")
    if not body["stream"]:
        return read_whole(response.content)
    stream = Stream()
    stream.feed(0.0, response.content)
    stream.close(0.0)
    return stream.answer


def _error(response: httpx.Response) -> str:
    try:
        return error_in(response.json())
    except (ValueError, RecursionError):
        return response.text[:200]


def ask_golden(url: str, scenario: Scenario, golden: str, path: Path) -> list[dict[str, Any]]:
    """The answers to every gate question of ``golden``, as lines of ``path``: ``question``, ``text``, and sources.

    One that failed has no text, and says why in ``error``.
    """
    greedy = scenario.model_copy(update={"output": Output(tokens=ANSWER_TOKENS)})

    def answered(prompt: Prompt) -> dict[str, Any]:
        answer = ask(url, scenario, body_of(greedy, prompt, ANSWER_TOKENS, 0))
        reason = answer.error or answer.fault
        failed = {"error": reason} if reason else {}
        return {"question": prompt.id, "text": "".join(answer.texts), **answer.sources, **failed}

    with ThreadPoolExecutor(STREAMS) as asking:
        lines: Sequence[dict[str, Any]] = list(asking.map(answered, read_golden(golden, scenario.endpoint)))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return list(lines)


__all__ = ["ANSWER_TOKENS", "STREAMS", "ask", "ask_golden"]
