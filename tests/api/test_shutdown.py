"""The end of the server while answers run: whoever waits is told, and nothing is left that fails unseen."""

import asyncio
import gc
import json
from typing import Any

import httpx
import pytest
import structlog

from slipstream.api.triton import TritonClient
from slipstream.api.triton.tensors import Sampling, prompt_tensor
from tests.api.scripted import Hang, Retrieve, Say, ScriptedTriton
from tests.api.test_chat import CHAT, STREAM, cancelled


def app_of(client: httpx.AsyncClient) -> Any:
    return client._transport.app  # type: ignore[attr-defined]


async def test_a_stream_that_the_shutdown_cuts_ends_with_an_error_event(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(Say("Half", completion_tokens=1), Hang())
    with structlog.testing.capture_logs() as logs:
        answer = asyncio.create_task(scripted.post("/v1/chat/completions", json=STREAM))
        await triton.has_requests(1)
        await asyncio.sleep(0.1)  # the first event is out
        app_of(scripted).state.facade.closing.set()
        response = await asyncio.wait_for(answer, 20)
    *_, half, last, rest = response.text.split("\n\n")
    assert (response.status_code, rest) == (200, "")
    assert "Half" in half
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "shutting_down")
    (logged,) = (entry for entry in logs if entry["event"] == "request")
    assert logged["code"] == "shutting_down"
    assert await cancelled(triton, 1)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_that_has_not_begun_is_a_503(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, streamed: bool
) -> None:
    triton.says(Hang())
    answer = asyncio.create_task(scripted.post("/v1/chat/completions", json=CHAT | {"stream": streamed}))
    await triton.has_requests(1)
    app_of(scripted).state.facade.closing.set()
    response = await asyncio.wait_for(answer, 20)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "shutting_down"
    assert "retry-after" in response.headers


@pytest.mark.parametrize("closing", [True, False])
async def test_a_request_that_uvicorn_cancels_is_answered_when_the_server_ends(
    scripted: httpx.AsyncClient, closing: bool
) -> None:
    arriving = asyncio.Event()

    async def body() -> Any:
        yield b"{"
        arriving.set()
        await asyncio.Event().wait()

    request = asyncio.create_task(scripted.post("/v1/chat/completions", content=body()))
    await arriving.wait()
    if closing:
        app_of(scripted).state.facade.closing.set()
    request.cancel("Task cancelled, timeout graceful shutdown exceeded")
    if closing:
        assert (await request).json()["error"]["code"] == "shutting_down"
    else:
        with pytest.raises(asyncio.CancelledError):
            await request


@pytest.mark.parametrize("closed_first", [True, False])
async def test_a_cancel_that_the_end_overtakes_does_not_fail_unseen(triton: ScriptedTriton, closed_first: bool) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    triton.ignored_cancels = 10_000
    triton.says(Say("Half", completion_tokens=1), Retrieve(), Say("late"), Hang())
    client = TritonClient(triton.address)
    sampling = Sampling(max_tokens=1, temperature=0.0, top_p=1.0, seed=None, stop=())
    pieces = client.generate("generator", [prompt_tensor([1])], "a", sampling)
    assert (await anext(pieces)).text == "Half"
    if closed_first:
        await client.close()
        await pieces.aclose()
    else:
        await pieces.aclose()
        await asyncio.sleep(0.1)  # the cancels go on
        await client.close()
    await asyncio.sleep(0.3)  # longer than the pause between two cancels
    gc.collect()
    assert failures == []
