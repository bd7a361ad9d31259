"""What a chat answer looks like on the wire, and what happens when it goes wrong half way."""

import asyncio
import json
import struct
from base64 import b64decode
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest

from slipstream.ensemble.contracts import encode_error
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings
from tests.api.conftest import Bundle, serving
from tests.api.scripted import HITS, Drop, Fail, Hang, Retrieve, Say, ScriptedTriton, tensors

ASK = [{"role": "user", "content": "Where is the retry budget?"}]
CHAT: dict[str, Any] = {"model": "slipstream", "messages": ASK}
STREAM = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
ANSWER = (
    Say(hits=json.dumps(HITS)),
    Say("In the бю", completion_tokens=3),
    Say("джет 😀 [2]", completion_tokens=6),
    Say(" and [1].", finish_reason="stop", completion_tokens=9),
)
CITED = ["retry/loop.py", "retry/budget.py"]


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any] | str]:
    """Every event's data, decoded; the protocol's frame is checked on the way."""
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") for event in events)
    datas = [event.removeprefix("data: ") for event in events]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


async def test_a_stream_has_role_texts_citations_usage_and_an_end(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(*ANSWER)
    role, *texts, closing, usage, done = await stream(scripted, STREAM)
    assert done == "[DONE]"
    assert isinstance(role, dict)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [text["choices"][0]["delta"]["content"] for text in texts if isinstance(text, dict)] == [
        "In the бю",
        "джет 😀 [2]",
        " and [1].",
    ]
    assert isinstance(closing, dict)
    assert closing["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert [citation["path"] for citation in closing["citations"]] == CITED
    assert set(closing["citations"][0]) == {"path", "line_start", "line_end", "symbol", "repo", "score"}
    assert isinstance(usage, dict)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20}
    chunks = [role, *texts, closing, usage]
    assert all(chunk["usage"] is None for chunk in chunks[:-1] if isinstance(chunk, dict))
    identities = {
        (chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"], chunk["object"])
        for chunk in chunks
        if isinstance(chunk, dict)
    }
    assert len(identities) == 1
    identity = identities.pop()
    assert identity[0].startswith("chatcmpl-")
    assert identity[2:] == ("slipstream", "test-v0-tiny-none-p1@0123456789abcdef", "chat.completion.chunk")


async def test_without_include_usage_no_chunk_speaks_of_it(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(*ANSWER)
    *chunks, done = await stream(scripted, CHAT | {"stream": True})
    assert done == "[DONE]"
    assert not [chunk for chunk in chunks if "usage" in chunk]


async def test_a_whole_answer_says_the_same(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(*ANSWER)
    body = (await scripted.post("/v1/chat/completions", json=CHAT)).json()
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "In the бюджет 😀 [2] and [1].", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert [citation["path"] for citation in body["citations"]] == CITED
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20}


async def test_an_empty_answer_is_still_an_answer(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(Say(finish_reason="stop"))
    role, closing, _, done = await stream(scripted, STREAM)
    assert isinstance(role, dict)
    assert isinstance(closing, dict)
    assert (closing["choices"][0]["finish_reason"], closing["citations"], done) == ("stop", [], "[DONE]")
    triton.says(Say(finish_reason="stop"))
    assert (await scripted.post("/v1/chat/completions", json=CHAT)).json()["choices"][0]["message"]["content"] == ""


async def test_the_ensemble_gets_question_conversation_and_sampling(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(*ANSWER)
    history = [{"role": "user", "content": "Hi [1]"}, {"role": "assistant", "content": "Hello"}]
    answered = [history[0], {"role": "assistant", "content": "Hello [2]"}]
    system = {"role": "system", "content": "Be terse."}
    parts = {"role": "user", "content": [{"type": "text", "text": "Where is"}, {"type": "text", "text": "it?"}]}
    sampling = {"temperature": 0.5, "top_p": 0.9, "seed": -5, "stop": ["\n", "конец"], "max_tokens": 7}
    body = CHAT | sampling | {"messages": [system, *answered, parts], "collection": "shop", "revision": "v1.0"}
    await scripted.post("/v1/chat/completions", json=body)
    (request,) = triton.requests
    sent = tensors(request)
    assert request.model_name == "rag"
    assert json.loads(sent["messages"][4:]) == [*history, {"role": "user", "content": "Be terse.\n\nWhere is\nit?"}]
    search = json.loads(sent["search"][4:])
    assert (search["query"], search["collection"], search["revision"]) == ("Where is\nit?", "shop", "v1.0")
    assert struct.unpack("<f", sent["temperature"])[0] == 0.5
    assert struct.unpack("<f", sent["top_p"])[0] == pytest.approx(0.9)
    assert struct.unpack("<i", sent["max_tokens"])[0] == 7
    assert struct.unpack("<q", sent["seed"])[0] == 2**63 - 5
    assert sent["stop"] == b"\x01\0\0\0\n" + b"\x0a\0\0\0" + "конец".encode()
    assert sent["ignore_eos"] == b"\0"


@pytest.mark.parametrize(("asked", "sent"), [({"ignore_eos": True}, b"\1"), ({"ignore_eos": None}, b"\0"), ({}, b"\0")])
@pytest.mark.parametrize("model", ["slipstream", "slipstream-base"])
async def test_only_who_asks_for_it_gets_an_answer_that_does_not_end(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, model: str, asked: dict[str, Any], sent: bytes
) -> None:
    triton.says(*ANSWER)
    response = await scripted.post("/v1/chat/completions", json=CHAT | {"model": model, "stop": "END"} | asked)
    assert response.status_code == 200, response.text
    inputs = tensors(triton.requests[0])
    assert inputs["ignore_eos"] == sent
    assert inputs["stop"] == b"\3\0\0\0END"


async def test_every_event_stays_on_its_line_however_a_client_splits_them(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    text = "a\u2028b\u2029c\x85d\r\ne\x0bf"
    triton.says(Say(text, completion_tokens=1), Say(finish_reason="stop", completion_tokens=1))
    _, said, *_ = await stream(scripted, STREAM)
    assert isinstance(said, dict)
    assert said["choices"][0]["delta"]["content"] == text
    raw = (await scripted.post("/v1/chat/completions", json=STREAM)).text
    assert raw.splitlines() == raw.split("\n")[:-1]


@pytest.mark.parametrize(("asked", "sent"), [(1e-300, 0.0), (0.009, 0.0), (0.01, 0.01), (2, 2.0)])
async def test_a_temperature_that_would_overflow_is_greedy(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, asked: float, sent: float
) -> None:
    triton.says(*ANSWER)
    await scripted.post("/v1/chat/completions", json=CHAT | {"temperature": asked, "top_p": 1e-300})
    inputs = tensors(triton.requests[0])
    assert struct.unpack("<f", inputs["temperature"])[0] == pytest.approx(sent)
    assert struct.unpack("<f", inputs["top_p"])[0] == pytest.approx(0.001)


async def test_the_bare_generator_gets_the_chat_template(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, bundle: Bundle
) -> None:
    triton.says(Say("Hi", finish_reason="length", completion_tokens=1))
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Привет"}]
    body = {"model": "slipstream-base", "messages": messages, "max_tokens": 1}
    answer = (await scripted.post("/v1/chat/completions", json=body)).json()
    (request,) = triton.requests
    ids = np.frombuffer(tensors(request)["prompt_ids"], np.int32).tolist()
    tokenizer = ChatTokenizer(bundle.tokenizer_dir)
    assert ids == tokenizer.encode_chat([{"role": "system", "content": "Be brief."}, messages[1]])
    assert request.model_name == "generator"
    assert struct.unpack("<f", tensors(request)["temperature"])[0] == 0.0
    assert struct.unpack("<q", tensors(request)["seed"])[0] == -1
    assert answer["citations"] == []
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("context_length_exceeded", 400),
        ("collection_not_found", 404),
        ("revision_not_found", 404),
        ("embedder_mismatch", 409),
        ("overloaded", 429),
        ("index_unavailable", 503),
        ("engine_error", 503),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refusal_by_the_ensemble_keeps_its_words_and_has_a_status(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, code: Any, status: int, streamed: bool
) -> None:
    triton.says(Fail("in ensemble 'rag', " + encode_error(code, 'Не "так"', "collection")))
    response = await scripted.post("/v1/chat/completions", json=CHAT | {"stream": streamed})
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["message"], error["param"]) == (code, 'Не "так"', "collection")
    assert ("retry-after" in response.headers) == (status in (429, 503))


async def test_a_foreign_triton_error_is_not_passed_on(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(Fail("/opt/secret/path.py line 3: boom"))
    response = await scripted.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert "secret" not in response.text


@pytest.mark.parametrize("end", [Fail(encode_error("engine_error", "out of memory")), Drop(), Hang()])
async def test_what_breaks_in_mid_stream_ends_it_with_an_error_event(
    impatient: httpx.AsyncClient, triton: ScriptedTriton, end: Any
) -> None:
    triton.says(Say("Half", completion_tokens=1), end)
    *_, half, error = await stream(impatient, STREAM)
    assert isinstance(half, dict)
    assert half["choices"][0]["delta"]["content"] == "Half"
    assert isinstance(error, dict)
    assert set(error) == {"error"}
    assert error["error"]["type"] == "server_error"


@pytest.mark.parametrize("reason", ["cancelled", "error"])
async def test_an_answer_that_the_engine_drops_is_an_error_and_no_answer(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, reason: str
) -> None:
    triton.says(Say("Half", completion_tokens=1), Say(finish_reason=reason, completion_tokens=1))
    response = await scripted.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_error"
    *_, last = await stream(scripted, STREAM)
    assert isinstance(last, dict)
    assert last["error"]["code"] == "engine_error"


async def test_silence_before_the_first_token_is_a_503_and_frees_the_engine(
    impatient: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(Hang())
    response = await impatient.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "timeout"
    assert await cancelled(triton, 1)


async def test_a_triton_that_is_slow_to_shake_hands_is_no_failure(
    bundle: Bundle, settings: Settings, triton: ScriptedTriton
) -> None:
    """As where other processes have the cores: the connection stands, and nobody has read from it yet."""
    relays: list[asyncio.Task[None]] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(65536):
                writer.write(data)

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)
        there, back = await asyncio.open_connection("127.0.0.1", int(triton.address.rpartition(":")[2]))
        relays.extend((asyncio.create_task(relay(reader, back)), asyncio.create_task(relay(there, writer))))

    triton.says(*ANSWER)
    async with await asyncio.start_server(slowly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with serving(bundle, settings, f"127.0.0.1:{port}") as client:
            response = await client.post("/v1/chat/completions", json=CHAT)
    for task in relays:
        task.cancel()
    await asyncio.gather(*relays, return_exceptions=True)
    assert response.status_code == 200, response.text


async def test_a_full_queue_is_a_429_at_once(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(Hang())
    waiting = [asyncio.create_task(scripted.post("/v1/chat/completions", json=CHAT)) for _ in range(3)]
    await triton.has_requests(3)
    response = await scripted.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["type"] == "rate_limit_error"
    for client in waiting:
        client.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    triton.says(*ANSWER)
    assert (await scripted.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def cancelled(triton: ScriptedTriton, times: int) -> bool:
    for _ in range(1000):
        if len(triton.cancelled) >= times:
            return len(set(triton.cancelled)) == 1
        await asyncio.sleep(0.01)
    return False


async def leave(app: Any, body: dict[str, Any], triton: ScriptedTriton) -> list[dict[str, Any]]:
    """Send ``body`` to ``app`` and go away once the ensemble has the request; what was sent until then."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await triton.has_requests(1)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"localhost")],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    await asyncio.wait_for(app(scope, receive, send), 20)
    return sent


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_cancels_its_generation(
    scripted: httpx.AsyncClient, triton: ScriptedTriton, streamed: bool
) -> None:
    triton.says(Hang())
    app = scripted._transport.app  # type: ignore[attr-defined]
    sent = await leave(app, CHAT | {"stream": streamed}, triton)
    assert sent == []
    assert await cancelled(triton, 1)
    assert triton.cancelled[0] == tensors(triton.requests[0])["generation_id"][4:].decode()
    metrics = (await scripted.get("/metrics")).text
    assert "slipstream_disconnects_total 1.0" in metrics
    assert 'status="499"' in metrics


async def test_a_cancel_that_overtakes_its_request_is_sent_again(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.ignored_cancels = 1
    triton.says(Retrieve(), Say("late"), Hang())
    app = scripted._transport.app  # type: ignore[attr-defined]
    await leave(app, CHAT, triton)
    assert await cancelled(triton, 2)


async def test_an_answer_that_was_delivered_is_not_cancelled(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(*ANSWER)
    await stream(scripted, STREAM)
    await asyncio.sleep(0.05)
    assert triton.cancelled == []


async def test_embeddings_keep_their_order_and_count_their_tokens(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    texts = ["a much longer text", "b", "cc " * 5, *"defghijklmnopqrst"]
    body = (await scripted.post("/v1/embeddings", json={"model": "slipstream-embed", "input": texts})).json()
    assert [item["index"] for item in body["data"]] == list(range(len(texts)))
    assert len(triton.requests) == 2  # batches of 16
    alone = [
        (await scripted.post("/v1/embeddings", json={"model": "slipstream-embed", "input": text})).json()
        for text in texts
    ]
    assert [item["embedding"] for item in body["data"]] == [one["data"][0]["embedding"] for one in alone]
    assert body["usage"]["prompt_tokens"] == sum(one["usage"]["prompt_tokens"] for one in alone)


async def test_embeddings_in_base64_hold_the_same_numbers(scripted: httpx.AsyncClient) -> None:
    ask = {"model": "slipstream-embed", "input": "text", "dimensions": 4}
    plain = (await scripted.post("/v1/embeddings", json=ask)).json()["data"][0]["embedding"]
    packed = (await scripted.post("/v1/embeddings", json=ask | {"encoding_format": "base64"})).json()
    assert struct.unpack("<4f", b64decode(packed["data"][0]["embedding"])) == tuple(plain)


async def test_search_returns_hits_with_the_version_they_come_from(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    response = await scripted.post("/v1/search", json={"query": "retry", "language": "python", "limit": 2})
    assert response.json() == HITS
    search = json.loads(tensors(triton.requests[0])["search"][4:])
    assert search == {
        "query": "retry",
        "collection": "code",
        "revision": None,
        "limit": 2,
        "repo": None,
        "language": "python",
        "path_prefix": None,
    }


async def test_a_refused_search_has_its_status(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(Fail(encode_error("collection_not_found", "no collection 'x'", "collection")))
    response = await scripted.post("/v1/search", json={"query": "retry", "collection": "x"})
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "collection"
