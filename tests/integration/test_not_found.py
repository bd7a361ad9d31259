"""What the index does not hold is not invented: the real stack says so, and the engine rests."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.integration.conftest import Stack

pytestmark = pytest.mark.integration

ANSWERABLE = "How does add_middleware register a middleware?"
RUSSIAN = "Как add_middleware регистрирует middleware?"
NOWHERE = "Which fertilizer makes tomatoes ripen in a cold greenhouse?"
NOWHERE_RUSSIAN = "Каким удобрением подкормить помидоры в холодной теплице?"
SENTENCES = {NOWHERE: "I did not find this in the indexed code.", NOWHERE_RUSSIAN: "этого не нашлось."}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.base_url}/v1", api_key="none is needed", max_retries=0, timeout=300) as client:
        yield client


def answered(client: OpenAI, question: str, *, stream: bool, **wanted: Any) -> tuple[str, str, list[Any], bool, Any]:
    """Text, finish reason, citations, whether it is grounded, usage."""
    body: dict[str, Any] = {"model": "slipstream", "messages": [{"role": "user", "content": question}], **wanted}
    if not stream:
        whole: Any = client.chat.completions.create(**body)
        choice = whole.choices[0]
        return choice.message.content, choice.finish_reason, whole.citations, whole.grounded, whole.usage
    chunks: list[Any] = list(
        client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
    )
    *texts, closing, usage = chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in texts)
    return text, closing.choices[0].finish_reason, closing.citations, closing.grounded, usage.usage


def generated(stack: Stack) -> float:
    """Tokens that the engine made since it started."""
    lines = httpx.get(stack.metrics_url).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("slipstream_generator_tokens_total{"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("question", [NOWHERE, NOWHERE_RUSSIAN])
def test_what_is_not_there_is_declined(client: OpenAI, stack: Stack, question: str, stream: bool) -> None:
    before = generated(stack)
    text, finish, citations, grounded, usage = answered(client, question, stream=stream, seed=1, temperature=1.0)
    assert SENTENCES[question] in text
    assert f"`{stack.collection}`" in text
    assert (finish, citations, grounded) == ("stop", [], False)
    assert usage.prompt_tokens == 0
    assert usage.completion_tokens == usage.total_tokens > 10
    assert generated(stack) == before


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("question", [ANSWERABLE, RUSSIAN])
def test_what_is_there_is_answered(client: OpenAI, question: str, stream: bool) -> None:
    text, _, citations, grounded, usage = answered(client, question, stream=stream, max_tokens=64)
    assert not any(sentence in text for sentence in SENTENCES.values())
    assert grounded
    assert citations or usage.completion_tokens == 64
    assert usage.prompt_tokens > 0


def test_what_is_far_below_the_best_hit_is_not_in_the_prompt(client: OpenAI) -> None:
    """The search finds thirty chunks for it, and they would fill the 768 tokens of the budget."""
    *_, usage = answered(client, ANSWERABLE, stream=False, max_tokens=1)
    assert 0 < usage.prompt_tokens < 500


def test_a_declined_answer_keeps_its_limits(client: OpenAI) -> None:
    text, finish, _, _, usage = answered(client, NOWHERE, stream=True, max_tokens=3)
    assert (finish, usage.completion_tokens) == ("length", 3)
    assert SENTENCES[NOWHERE].startswith(text)
    text, finish, *_ = answered(client, NOWHERE, stream=False, stop=" indexed")
    assert (text, finish) == ("I did not find this in the", "stop")


@pytest.mark.parametrize("follow_up", ["and why?", "and where is it called?"])
def test_a_question_that_goes_on_from_another_is_searched_with_it(client: OpenAI, follow_up: str) -> None:
    turns: list[Any] = [
        {"role": "user", "content": ANSWERABLE},
        {"role": "assistant", "content": "It inserts it into a list [1]."},
        {"role": "user", "content": follow_up},
    ]
    answer: Any = client.chat.completions.create(model="slipstream", messages=turns, max_tokens=8)
    assert answer.grounded
    alone: Any = client.chat.completions.create(model="slipstream", messages=turns[-1:], max_tokens=8)
    assert not alone.grounded


def test_a_search_tells_how_sure_it_is(stack: Stack) -> None:
    sure, unsure = (
        httpx.post(f"{stack.base_url}/v1/search", json={"query": query}, timeout=30).json()
        for query in (ANSWERABLE, NOWHERE)
    )
    assert 0 <= unsure["confidence"] < 0.5 <= sure["confidence"] <= 1
    assert unsure["hits"]
    assert set(unsure) == {"hits", "collection", "index_version", "confidence"}


def test_the_bare_generator_declines_nothing_and_is_not_grounded(client: OpenAI) -> None:
    answer: Any = client.chat.completions.create(
        model="slipstream-base", messages=[{"role": "user", "content": NOWHERE}], max_tokens=8
    )
    assert answer.usage.prompt_tokens > 0
    assert (answer.citations, answer.grounded) == ([], False)


def test_a_conversation_too_long_is_refused_and_not_declined(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        answered(client, NOWHERE + " tomato" * 20_000, stream=False)
    assert raised.value.code == "context_length_exceeded"
