"""What the access log and the metrics say of an answer, by DESIGN's definitions."""

from time import perf_counter
from typing import Any

import httpx
import pytest
import structlog

from tests.api.scripted import Say, ScriptedTriton
from tests.api.test_chat import ANSWER, CHAT, STREAM


async def measured(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The access log's entry and the metrics of one chat, in which the first token and the end are 8 s apart."""
    start = float(int(perf_counter()))  # whole, so that differences are exact
    moments = iter((start + 2.0, start + 10.0))
    monkeypatch.setattr("slipstream.api.routes.chat.perf_counter", lambda: next(moments))
    with structlog.testing.capture_logs() as logs:
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    (entry,) = (entry for entry in logs if entry["event"] == "request")
    return dict(entry), (await client.get("/metrics")).text


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "streamed"])
async def test_an_answer_is_measured_as_the_design_defines_it(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    triton.says(*ANSWER)  # 9 tokens: 8 of them after the first
    entry, metrics = await measured(scripted, monkeypatch, body)
    assert entry["tpot_s"] == 1.0
    assert 0.0 < entry["ttft_s"] <= 2.0
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (11, 9)
    assert 'slipstream_tokens_total{kind="prompt",model="slipstream"} 11.0' in metrics
    assert 'slipstream_tokens_total{kind="completion",model="slipstream"} 9.0' in metrics
    assert 'slipstream_time_to_first_token_seconds_count{model="slipstream"} 1.0' in metrics
    assert 'slipstream_time_per_output_token_seconds_sum{model="slipstream"} 1.0' in metrics


async def test_an_answer_of_one_token_has_no_time_per_token(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton.says(Say("Yes", finish_reason="stop", completion_tokens=1))
    entry, metrics = await measured(scripted, monkeypatch, CHAT)
    assert "tpot_s" not in entry
    assert 'slipstream_time_to_first_token_seconds_count{model="slipstream"} 1.0' in metrics
    assert "slipstream_time_per_output_token_seconds_count" not in metrics


async def test_embedded_tokens_are_counted(scripted: httpx.AsyncClient) -> None:
    asked = {"model": "slipstream-embed", "input": ["text", "more"]}
    usage = (await scripted.post("/v1/embeddings", json=asked)).json()["usage"]
    counted = f'slipstream_tokens_total{{kind="prompt",model="slipstream-embed"}} {usage["prompt_tokens"]}.0'
    assert counted in (await scripted.get("/metrics")).text
