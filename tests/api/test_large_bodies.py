"""A body of 4 MB must not keep the event loop: what would take long is refused before it is begun."""

import threading
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from slipstream.api.requests import ChatRequest, EmbeddingRequest, _Request
from slipstream.ensemble.tokenizer import EmbedderTokenizer
from tests.api.test_validation import assert_refused


def _chat(content: str) -> str:
    return '{"model": "slipstream", "messages": [{"role": "user", "content": ' + content + "}]}"


SWARMS = {
    "parts": _chat("[" + ",".join(["{}"] * 100_000) + "]"),
    "messages": '{"messages": [' + ",".join(["{}"] * 100_000) + "]}",
    "unknown keys": "{" + ",".join(f'"k{number}":1' for number in range(50_000)) + "}",
    "depth": "[" * 100_000,
    "in what is ignored": '{"user": ' + "[[]," * 50_000 + "]",
    "texts": '{"input": [' + ",".join(['"a"'] * 50_000) + "]}",
    "a text that never ends": '{"user": "' + '\\"' * 500_000,
}


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("swarm", [name for name in SWARMS if "text that" not in name])
async def test_a_body_of_very_many_values_is_refused_before_anything_is_made_of_them(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, route: str, swarm: str
) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("the body was parsed")

    monkeypatch.setattr(_Request, "model_validate_json", must_not_run)
    message = assert_refused(await client.post(route, content=SWARMS[swarm]), 400, None, "too_many_values")
    assert "10000" in message


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, _chat("[" + ",".join(["{}"] * 200) + "]")),
        (ChatRequest, _chat("[" + ",".join(["{}"] * 4000) + "]")),
        (ChatRequest, '{"model": "slipstream", "messages": [' + ",".join(["{}"] * 200) + "]}"),
        (EmbeddingRequest, '{"model": "slipstream-embed", "input": [' + ",".join(["null"] * 2000) + "]}"),
    ],
    ids=["parts", "very many parts", "messages", "texts"],
)
def test_a_list_is_given_up_at_its_first_bad_element(model: type[_Request], body: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(body)
    assert refused.value.error_count() <= 4


async def test_a_long_text_is_one_value_whatever_stands_in_it(client: httpx.AsyncClient) -> None:
    code = '{"a": [1, 2], "b": "\\"}' * 20_000
    body = {"model": "slipstream", "messages": [{"role": "user", "content": code}]}
    response = await client.post("/v1/chat/completions", json=body)
    assert_refused(response, 400, "messages", "context_length_exceeded")
    assert_refused(
        await client.post("/v1/chat/completions", content=SWARMS["a text that never ends"]), 400, None, "invalid_json"
    )


async def test_an_embedding_text_of_megabytes_is_refused_unread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("the text was tokenized")

    monkeypatch.setattr(EmbedderTokenizer, "encode", must_not_run)
    body = {"model": "slipstream-embed", "input": "word " * 700_000}
    assert_refused(await client.post("/v1/embeddings", json=body), 400, "input[0]", "context_length_exceeded")


async def test_many_long_texts_are_tokenized_beside_the_loop_both_times(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            threads.append(threading.get_ident())
            return method(*arguments)

        return call

    monkeypatch.setattr(EmbedderTokenizer, "encode", noted(EmbedderTokenizer.encode))
    monkeypatch.setattr(EmbedderTokenizer, "is_truncated", noted(EmbedderTokenizer.is_truncated))
    body = {"model": "slipstream-embed", "input": ["word " * 100] * 10}
    assert_refused(await client.post("/v1/embeddings", json=body), 400, "input[0]", "context_length_exceeded")
    assert len(threads) == 2
    assert threading.get_ident() not in threads
