"""Who holds the engine's slots: clients that leave, more clients than slots, more clients than the queue takes."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

import httpx
import pytest

from slipstream.ensemble.bundle import find_bundle
from slipstream.settings import Settings
from tests.integration.conftest import Stack

pytestmark = pytest.mark.integration

FREED_WITHIN_S = 0.2
GAUGES_LAG_S = 0.1
"""Triton's custom metrics follow the engine's counters every 0.05 s; a reading takes a few milliseconds more."""
QUESTION = "How does add_middleware register a middleware?"


@dataclass(frozen=True)
class Engine:
    """The generator's counters at one moment."""

    tokens: float
    active: float
    waiting: float
    cancelled: float

    @property
    def idle(self) -> bool:
        return self.active == self.waiting == 0


def engine(stack: Stack) -> Engine:
    lines = httpx.get(stack.metrics_url, timeout=10).text.splitlines()

    def value(name: str) -> float:
        full = f"slipstream_generator_{name}{{"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(full))

    return Engine(value("tokens_total"), value("active"), value("waiting"), value("cancelled_total"))


def wait_for(stack: Stack, condition: Callable[[Engine], bool], timeout_s: float = 60.0) -> Engine:
    deadline = time.monotonic() + timeout_s
    while not condition(seen := engine(stack)):
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.005)
    return seen


def chat(model: str, *, stream: bool, max_tokens: int = 900, question: str = QUESTION) -> dict[str, Any]:
    """A request for a long answer: at this temperature nearly every token is noise, and the end is not found."""
    messages = [{"role": "user", "content": question}]
    return {
        "model": model,
        "messages": messages,
        "stream": stream,
        "max_tokens": max_tokens,
        "temperature": 2,
        "seed": 2,
    }


def leave(stack: Stack, body: dict[str, Any], when: Callable[[Engine], bool]) -> float:
    """Ask, hang up once the engine is at ``when``; seconds until the engine is idle."""
    host, port = stack.base_url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n".encode()

    async def ask_and_leave() -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + data)
        await writer.drain()
        await asyncio.to_thread(wait_for, stack, when)
        writer.transport.abort()

    asyncio.run(ask_and_leave())
    left = time.monotonic()
    wait_for(stack, lambda now: now.idle)
    return time.monotonic() - left


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", ["slipstream", "slipstream-base"])
def test_a_client_that_leaves_frees_its_slot_in_time(stack: Stack, model: str, stream: bool) -> None:
    freed_s = []
    for _ in range(5):
        before = wait_for(stack, lambda now: now.idle)
        freed_s.append(
            leave(stack, chat(model, stream=stream), lambda now, start=before: now.tokens >= start.tokens + 3)  # type: ignore[misc]
        )
        after = engine(stack)
        assert after.cancelled == before.cancelled + 1
        time.sleep(0.3)
        assert engine(stack).tokens == after.tokens, "tokens were generated for nobody"
    assert median(freed_s) <= FREED_WITHIN_S + GAUGES_LAG_S, freed_s


def long_question(words: int) -> str:
    """A prompt that shares no cached prefix with another; about seven tokens a word."""
    return " ".join(f"{uuid4().hex[:4]} {number}" for number in range(words))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_during_the_prefill_frees_its_slot_in_time(stack: Stack, stream: bool) -> None:
    freed_s = []
    for _ in range(5):
        before = wait_for(stack, lambda now: now.idle)
        body = chat("slipstream-base", stream=stream, question=long_question(400))
        freed_s.append(leave(stack, body, lambda now: now.active >= 1))
        after = engine(stack)
        assert after.tokens - before.tokens <= 1, "it was not in its prefill any more"
        assert after.cancelled == before.cancelled + 1
    # The engine hears a cancel between two steps, which is why a step prefills so little.
    assert median(freed_s) <= FREED_WITHIN_S + GAUGES_LAG_S, freed_s


def test_a_client_that_leaves_at_once_is_forgotten(stack: Stack) -> None:
    """The cancel may overtake its own request, which is still being searched for."""
    before = wait_for(stack, lambda now: now.idle)
    leave(stack, chat("slipstream", stream=True), lambda now: True)
    time.sleep(1.0)
    after = wait_for(stack, lambda now: now.idle, timeout_s=5)
    assert after.tokens - before.tokens <= 150, "it asked for 900"


async def ask_all(stack: Stack, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=600, limits=limits) as client:
        return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for body in bodies))


def test_thirty_two_clients_share_eight_slots_and_none_is_lost(stack: Stack) -> None:
    bodies = [
        chat(("slipstream", "slipstream-base")[index % 2], stream=index % 4 < 2, max_tokens=16) for index in range(32)
    ]
    answers = asyncio.run(ask_all(stack, bodies))
    assert [answer.status_code for answer in answers] == [200] * 32
    for body, answer in zip(bodies, answers, strict=True):
        if body["stream"]:
            assert answer.text.endswith("data: [DONE]\n\n")
            assert '"error"' not in answer.text
        else:
            assert answer.json()["usage"]["completion_tokens"] >= 1
    assert wait_for(stack, lambda now: now.idle)


def test_more_clients_than_the_queue_takes_are_told_to_come_back(stack: Stack) -> None:
    serving = find_bundle(Settings(home=stack.home).bundles_dir).manifest.serving
    room = serving.max_concurrency + serving.max_waiting
    bodies = [chat("slipstream-base", stream=True, max_tokens=12, question=f"Say {n}.") for n in range(room + 20)]
    answers = asyncio.run(ask_all(stack, bodies))
    accepted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(accepted) >= room
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in accepted)
    assert refused
    for answer in refused:
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
    assert httpx.post(f"{stack.base_url}/v1/chat/completions", json=bodies[0], timeout=60).status_code == 200
