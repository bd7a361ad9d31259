"""What is wrong with a request is a 4xx in OpenAI's shape that names the field, whatever it is."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import CONTEXT_LENGTH, EMBEDDER_TOKENS

ASK = [{"role": "user", "content": "Where is the retry budget?"}]
CHAT = {"model": "slipstream", "messages": ASK}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def assert_refused(response: httpx.Response, status: int, param: str | None, code: str | None = None) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    if code is not None:
        assert error["code"] == code
    message = error["message"]
    assert isinstance(message, str)
    assert message
    return message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " \n\t"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 257}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": None}, *ASK]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": []}, *ASK]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*ASK, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}, *ASK]}, "messages[0].tool_calls"),
        ({"messages": ASK * 300}, "messages"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": "slipstream-embed"}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 5.0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 65}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": False}, "temperature"),
        ({"temperature": [0]}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": True}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop[0]"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop[0]"),
        ({"stop": "a" * 257}, "stop[0]"),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"ignore_eos": "true"}, "ignore_eos"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"logprobs": 0}, "logprobs"),
        ({"top_logprobs": 0.0}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"temprature": 1}, "temprature"),
        ({"collection": ""}, "collection"),
        ({"collection": "../../etc"}, "collection"),
        ({"collection": 5}, "collection"),
        ({"collection": ".hidden"}, "collection"),
        ({"collection": "code\n"}, "collection"),
        ({"collection": "a" * 65}, "collection"),
        ({"model": "slipstream-base", "collection": "code"}, "collection"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_chat_that_does_not_fit_is_refused_by_field(
    client: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    assert_refused(await client.post("/v1/chat/completions", json=CHAT | change), 400, param)


async def test_a_field_with_a_name_as_long_as_a_body_is_not_repeated_whole(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=CHAT | {"x" * 1024**2: 1})
    assert_refused(response, 400, "x" * 128, "unknown_parameter")


@pytest.mark.parametrize("name", ["str", "", "a[b", "list[TextPart]"])
@pytest.mark.parametrize("inner", [False, True])
async def test_an_unknown_field_is_named_whatever_its_name(client: httpx.AsyncClient, name: str, inner: bool) -> None:
    part = {"type": "text", "text": "x", name: 1}
    change: dict[str, Any] = {"messages": [{"role": "user", "content": [part]}]} if inner else {name: 1}
    response = await client.post("/v1/chat/completions", json=CHAT | change)
    param = f"messages[0].content[0].{name}" if inner else name or '""'
    assert param in assert_refused(response, 400, param, "unknown_parameter")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
async def test_a_number_that_is_none_names_its_field(client: httpx.AsyncClient, number: str) -> None:
    body = '{"model": "slipstream", "messages": [{"role": "user", "content": "x"}], "temperature": ' + number + "}"
    assert_refused(await client.post("/v1/chat/completions", content=body), 400, "temperature")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"[" * 5_000,
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": 1} trailing',
        b"\x00",
    ],
    ids=["empty", "open", "text", "not utf-8", "lone surrogate", "deep", "long number", "trailing", "zero byte"],
)
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/embeddings", "/v1/search", "/v1/feedback"])
async def test_broken_json_is_told_as_such(client: httpx.AsyncClient, route: str, body: bytes) -> None:
    assert_refused(await client.post(route, content=body), 400, None, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"5"])
async def test_json_that_is_no_object_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    assert_refused(await client.post("/v1/chat/completions", content=body), 400, None)


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/embeddings"])
async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient, route: str) -> None:
    body = {"model": "gpt-4o", "input": "x"} if "embed" in route else CHAT | {"model": "gpt-4o"}
    message = assert_refused(await client.post(route, json=body), 404, "model", "model_not_found")
    assert "slipstream-base" in message


async def test_a_question_of_a_megabyte_is_refused_with_the_limit(client: httpx.AsyncClient) -> None:
    for model in ("slipstream", "slipstream-base"):
        body = {"model": model, "messages": [{"role": "user", "content": "a" * 1024**2}]}
        message = assert_refused(
            await client.post("/v1/chat/completions", json=body), 400, "messages", "context_length_exceeded"
        )
        assert str(CONTEXT_LENGTH) in message


async def test_a_prompt_over_the_context_window_is_refused_before_the_engine_sees_it(client: httpx.AsyncClient) -> None:
    body = {"model": "slipstream-base", "messages": [{"role": "user", "content": "xyzzy " * 100}]}
    assert_refused(await client.post("/v1/chat/completions", json=body), 400, "messages", "context_length_exceeded")


async def test_a_prompt_counts_together_with_the_answer_it_leaves_room_for(client: httpx.AsyncClient) -> None:
    body = {"model": "slipstream-base", "messages": [{"role": "user", "content": "?" * 180}], "max_tokens": 64}
    message = assert_refused(await client.post("/v1/chat/completions", json=body), 400, "messages")
    assert "the answer may take 64" in message
    fits = await client.post("/v1/chat/completions", json=body | {"max_tokens": 8})
    assert fits.status_code == 503


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": 5}, "input"),
        ({"input": [None]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "long " * 50}, "input[0]"),
        ({"input": ["short", "x" * (16 * EMBEDDER_TOKENS + 1)]}, "input[1]"),
        ({"dimensions": 2}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"model": "slipstream"}, "model"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_embedding_request_that_does_not_fit_is_refused_by_field(
    client: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    body = {"model": "slipstream-embed", "input": "x"} | change
    message = assert_refused(await client.post("/v1/embeddings", json=body), 400, param)
    if change.get("input") == "long " * 50:
        assert str(EMBEDDER_TOKENS) in message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": "  "}, "query"),
        ({"query": "a" * 20_000}, "query"),
        ({"query": None}, "query"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"repo": 1}, "repo"),
        ({"path": "src"}, "path"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_search_that_does_not_fit_is_refused_by_field(
    client: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    assert_refused(await client.post("/v1/search", json={"query": "retry"} | change), 400, param)


@pytest.mark.parametrize("change", [{}, {"n": 1}, {"stop": None, "seed": -1, "tools": [], "user": "me", "store": True}])
async def test_what_changes_nothing_passes(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    response = await client.post("/v1/chat/completions", json=CHAT | change)
    assert response.status_code == 503, response.text  # through to the closed port


async def test_an_answer_sent_back_as_history_passes(client: httpx.AsyncClient) -> None:
    answer = {"role": "assistant", "content": "Here [1].", "refusal": None, "annotations": [], "tool_calls": None}
    refused = {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": []}
    for turn in (answer, refused):
        for model in ("slipstream", "slipstream-base"):
            body = {"model": model, "messages": [*ASK, turn, *ASK]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 503
