"""The HTTP surface on the real stack, seen by the official `openai` client, unchanged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.loadtest.folder import server_facts
from slipstream.settings import Settings
from tests.integration.conftest import Stack

pytestmark = pytest.mark.integration

QUESTION = "How does add_middleware register a middleware?"
RUSSIAN = "Как add_middleware регистрирует middleware? Отвечай по-русски."


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.base_url}/v1", api_key="none is needed", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer(stack: Stack) -> ChatTokenizer:
    return ChatTokenizer(find_bundle(Settings(home=stack.home).bundles_dir).tokenizer_dir)


def said(*turns: str) -> list[Any]:
    """A conversation that begins and ends with the user."""
    return [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]


def whole(client: OpenAI, question: str, model: str = "slipstream", **wanted: Any) -> Any:
    return client.chat.completions.create(model=model, messages=said(question), **wanted)


def streamed(client: OpenAI, question: str, model: str = "slipstream", **wanted: Any) -> list[Any]:
    options = {"include_usage": True}
    return list(
        client.chat.completions.create(
            model=model, messages=said(question), stream=True, stream_options=options, **wanted
        )  # type: ignore[call-overload]
    )


def text_of(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_a_whole_answer_cites_chunks_that_were_indexed(client: OpenAI, stack: Stack) -> None:
    answer = whole(client, QUESTION, max_tokens=128)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    marks = cited_numbers(answer.choices[0].message.content)
    assert len(answer.citations) == len(marks)
    for citation in answer.citations:
        assert set(citation) == {"path", "line_start", "line_end", "symbol", "repo", "score"}
        assert 1 <= citation["line_start"] <= citation["line_end"]
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 1 <= usage.completion_tokens <= 128


def test_a_streamed_answer_is_the_whole_one_in_pieces(client: OpenAI) -> None:
    answer = whole(client, QUESTION, max_tokens=64)
    chunks = streamed(client, QUESTION, max_tokens=64)
    assert text_of(chunks) == answer.choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    assert len({chunk.id for chunk in chunks}) == 1
    closing, usage = chunks[-2:]
    assert closing.choices[0].finish_reason == answer.choices[0].finish_reason
    assert closing.citations == answer.citations
    assert usage.choices == []
    assert usage.usage == answer.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("question", ["Name three colours.", "Скажи привет.", "def add(a, b):", "😀" * 5])
def test_usage_counts_what_the_tokenizer_counts(client: OpenAI, tokenizer: ChatTokenizer, question: str) -> None:
    answer = whole(client, question, "slipstream-base", max_tokens=24)
    assert answer.usage.prompt_tokens == len(tokenizer.encode_chat(said(question)))
    if answer.choices[0].finish_reason == "length":
        assert answer.usage.completion_tokens == 24
    text = answer.choices[0].message.content
    assert answer.usage.completion_tokens >= tokenizer.count(text) - 1  # the last character may be unfinished
    assert answer.usage == streamed(client, question, "slipstream-base", max_tokens=24)[-1].usage


def test_the_answer_ends_before_a_stop_string(client: OpenAI) -> None:
    full = whole(client, "Count: one two three", "slipstream-base", max_tokens=32).choices[0].message.content
    middle = full[len(full) // 2 :]
    stop = middle[:6]
    expected = full[: full.index(stop)]
    for stops in (stop, [stop], ["\x00 never", stop, "\x01 never", "\x02 never"]):
        answer = whole(client, "Count: one two three", "slipstream-base", max_tokens=32, stop=stops)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (expected, "stop")
    chunks = streamed(client, "Count: one two three", "slipstream-base", max_tokens=32, stop=stop)
    assert text_of(chunks) == expected
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "question"), [("slipstream", QUESTION), ("slipstream-base", "What is the capital of France?")]
)
def test_an_answer_that_ignores_its_end_has_exactly_the_tokens_asked_for(
    client: OpenAI, model: str, question: str
) -> None:
    """Where it would end earlier; a stop string ends it all the same."""
    ended = whole(client, question, model, max_tokens=100)
    assert ended.choices[0].finish_reason == "stop", "it has no short answer any more: ask something else"
    own = ended.choices[0].message.content
    on = {"max_tokens": 100, "extra_body": {"ignore_eos": True}}
    answer = whole(client, question, model, **on)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 100)
    text = answer.choices[0].message.content
    assert text.startswith(own)
    chunks = streamed(client, question, model, **on)
    assert (text_of(chunks), chunks[-1].usage) == (text, answer.usage)
    stop = text[len(own) : len(own) + 20]
    stopped = whole(client, question, model, stop=stop, **on)
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == (text[: text.index(stop)], "stop")


def test_a_seed_repeats_a_sampled_answer(client: OpenAI) -> None:
    def told(seed: int) -> str:
        answer = whole(client, "Tell a story.", "slipstream-base", max_tokens=24, temperature=1.0, seed=seed)
        return str(answer.choices[0].message.content)

    first = told(7)
    assert told(7) == first
    assert {told(seed) for seed in (8, 9, -1, 2**63 - 1)} != {first}


@pytest.mark.parametrize("model", ["slipstream", "slipstream-base"])
def test_no_character_is_ever_split(client: OpenAI, model: str) -> None:
    """Greedily: a sampled byte may be followed by one that makes no character of it, and that is the model's."""
    for question in (RUSSIAN, "Repeat: 😀 привет 你好 👩‍👩‍👧"):
        chunks = streamed(client, question, model, max_tokens=48, temperature=0)
        assert "\ufffd" not in text_of(chunks)


@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_not_even_where_the_answer_is_cut(client: OpenAI, max_tokens: int) -> None:
    chunks = streamed(client, "Повтори: привет", "slipstream-base", max_tokens=max_tokens)
    assert "\ufffd" not in text_of(chunks)
    assert chunks[-1].usage.completion_tokens <= max_tokens


def test_earlier_turns_are_read(client: OpenAI) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *said(QUESTION, "It appends to a list [1].", "Where?")]
    alone = whole(client, "Where?", max_tokens=8)
    answer = client.chat.completions.create(model="slipstream", messages=messages, max_tokens=8)  # type: ignore[arg-type]
    assert answer.usage
    assert answer.usage.prompt_tokens != alone.usage.prompt_tokens


def test_embeddings_are_unit_vectors_however_they_travel(client: OpenAI) -> None:
    texts = ["register a middleware", "def add_middleware(self, cls): ...", "the price of fish"]
    plain = client.embeddings.create(model="slipstream-embed", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="slipstream-embed", input=texts)  # the client asks for base64 by itself
    one = client.embeddings.create(model="slipstream-embed", input=texts[0])
    vectors = np.array([item.embedding for item in plain.data], np.float32)
    np.testing.assert_array_equal(vectors, np.array([item.embedding for item in packed.data], np.float32))
    np.testing.assert_allclose(vectors[0], one.data[0].embedding, atol=2e-2)  # int8: padding shifts its ranges a little
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert plain.usage.total_tokens == packed.usage.total_tokens > 0


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["slipstream", "slipstream-base", "slipstream-embed"]
    assert client.models.retrieve("slipstream").owned_by == "slipstream"


def test_search_metadata_and_metrics_agree_on_what_is_served(stack: Stack) -> None:
    found = httpx.post(f"{stack.base_url}/v1/search", json={"query": QUESTION, "limit": 3}, timeout=30).json()
    assert len(found["hits"]) == 3
    assert found["hits"] == sorted(found["hits"], key=lambda hit: -hit["score"])
    metadata = httpx.get(f"{stack.base_url}/v1/metadata").json()
    (collection,) = (info for info in metadata["collections"] if info["collection"] == stack.collection)
    bundle, index, facts = server_facts({**metadata, "default_collection": stack.collection})
    assert (bundle, index) == (metadata["bundle"]["id"], collection["version"])  # what a load test's report names
    assert facts.keys() == {"release", "target", "collection", "chunks", "sources", "version"}
    assert collection["version"] == found["index_version"]
    metrics = httpx.get(f"{stack.base_url}/metrics").text
    assert f'bundle="{metadata["bundle"]["id"]}"' in metrics


def test_a_search_finds_only_where_it_was_told_to_look(stack: Stack) -> None:
    body = {"query": "middleware", "path_prefix": "starlette/", "language": "python", "limit": 20}
    hits = httpx.post(f"{stack.base_url}/v1/search", json=body, timeout=30).json()["hits"]
    assert hits
    assert all(hit["path"].startswith("starlette/") and hit["language"] == "python" for hit in hits)


def test_what_is_cited_stands_in_the_file(client: OpenAI, stack: Stack) -> None:
    import fastapi

    site = Path(fastapi.__file__).parent.parent
    for hit in httpx.post(f"{stack.base_url}/v1/search", json={"query": QUESTION}, timeout=30).json()["hits"]:
        lines = (site / hit["path"]).read_text(encoding="utf-8").splitlines()
        assert 1 <= hit["line_start"] <= hit["line_end"] <= len(lines)
        assert hit["text"].splitlines()[0] == lines[hit["line_start"] - 1]


def refused(client: OpenAI, stream: bool, **changed: Any) -> openai.APIStatusError:
    body = {"model": "slipstream", "messages": said(QUESTION), "stream": stream} | changed
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(**body)
    return raised.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"model": "gpt-4o"}, 404, "model"),
        ({"extra_body": {"collection": "no-such"}}, 404, "collection"),
        ({"messages": said(" ")}, 400, "messages[0].content"),
        ({"messages": said("x" * 1024**2)}, 400, "messages"),
        ({"messages": said("retry budget " * 8000)}, 400, "messages"),
        ({"model": "slipstream-base", "messages": said("retry budget " * 8000)}, 400, "messages"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 10**9}, 400, "max_tokens"),
        ({"temperature": 3}, 400, "temperature"),
        ({"n": 2}, 400, "n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_answered_is_refused_by_field(
    client: OpenAI, stream: bool, changed: dict[str, Any], status: int, param: str
) -> None:
    error = refused(client, stream, **changed)
    assert (error.status_code, error.param) == (status, param)
    assert error.type == "invalid_request_error"


@pytest.mark.parametrize("question", ["\x00", "<|im_end|>", "\u202e\ufeff", "[1][2][99]", "🏳️‍🌈" * 50, "%s {0} ${x}"])
def test_an_odd_question_is_still_a_question(client: OpenAI, question: str) -> None:
    answer = whole(client, question, max_tokens=4)
    assert answer.choices[0].finish_reason in ("stop", "length")
