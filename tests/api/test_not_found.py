"""An answer that is none, on the wire and in the metrics; and what a follow-up is searched with."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream.api.requests import ChatMessage
from slipstream.api.routes.conversation import FOLLOW_UP_WORDS, REFERRING_WORDS, searched
from tests.api.scripted import HITS, Say, ScriptedTriton
from tests.api.test_chat import ANSWER, CHAT, STREAM, stream

SENTENCE = "I did not find this in the indexed code."
EVIDENCE = json.dumps(HITS | {"hits": [], "confidence": 0.1, "declined": SENTENCE})
DECLINED = Say(SENTENCE, "stop", prompt_tokens=0, completion_tokens=10, hits=EVIDENCE)


async def test_it_is_whole_and_marked(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(DECLINED)
    body = (await scripted.post("/v1/chat/completions", json=CHAT)).json()
    assert body["choices"][0]["message"]["content"] == SENTENCE
    assert body["choices"][0]["finish_reason"] == "stop"
    assert (body["citations"], body["grounded"]) == ([], False)
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 10, "total_tokens": 10}


async def test_it_is_streamed_and_marked_where_the_citations_are(
    scripted: httpx.AsyncClient, triton: ScriptedTriton
) -> None:
    triton.says(DECLINED)
    events = [event for event in await stream(scripted, STREAM) if isinstance(event, dict)]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]) == SENTENCE
    assert [event.get("grounded") for event in events] == [None, None, False, None]
    assert events[2]["citations"] == []


async def test_an_answer_from_contexts_is_grounded(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(*ANSWER)
    assert (await scripted.post("/v1/chat/completions", json=CHAT)).json()["grounded"] is True
    triton.says(*ANSWER)
    events = [event for event in await stream(scripted, STREAM) if isinstance(event, dict)]
    assert events[-2]["grounded"] is True


async def test_the_bare_generator_is_never_grounded(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(Say("So", "stop", completion_tokens=1))
    body = CHAT | {"model": "slipstream-base"}
    assert (await scripted.post("/v1/chat/completions", json=body)).json()["grounded"] is False


async def test_it_is_counted_and_its_speed_is_nobodys(scripted: httpx.AsyncClient, triton: ScriptedTriton) -> None:
    triton.says(DECLINED)
    await scripted.post("/v1/chat/completions", json=CHAT)
    metrics = (await scripted.get("/metrics")).text
    assert 'slipstream_declined_total{model="slipstream"} 1.0' in metrics
    assert "slipstream_time_per_output_token_seconds_count" not in metrics
    assert "slipstream_time_to_first_token_seconds_count" not in metrics
    assert 'slipstream_tokens_total{kind="completion"' not in metrics


def turns(*texts: str) -> list[ChatMessage]:
    return [
        ChatMessage(role=("user", "assistant")[index % 2], content=text)  # type: ignore[arg-type]
        for index, text in enumerate(texts)
    ]


QUESTION = "Where is the retry budget of a request enforced?"


@pytest.mark.parametrize(
    ("conversation", "query"),
    [
        (("why?",), "why?"),
        ((QUESTION,), QUESTION),
        ((QUESTION, "There [1].", "why?"), f"{QUESTION}\nwhy?"),
        ((QUESTION, "There [1].", "А почему?"), f"{QUESTION}\nА почему?"),
        ((QUESTION, "There [1].", "?!"), f"{QUESTION}\n?!"),
        ((QUESTION, "There [1].", "and in Go?", "Nowhere.", "why?"), f"{QUESTION}\nwhy?"),
        (
            (QUESTION, "There [1].", "Which tests cover the middleware stack?"),
            "Which tests cover the middleware stack?",
        ),
        (("why?", "What?", "and where?"), "and where?"),
        ((QUESTION, "There [1].", "and how is it removed?"), f"{QUESTION}\nand how is it removed?"),
        ((QUESTION, "There [1].", "Which of them are read on start?"), f"{QUESTION}\nWhich of them are read on start?"),
        (
            (QUESTION, "There [1].", "Where does that happen in the code?"),
            f"{QUESTION}\nWhere does that happen in the code?",
        ),
        ((QUESTION, "There [1].", "И где он после этого вызывается?"), f"{QUESTION}\nИ где он после этого вызывается?"),
        ((QUESTION, "There [1].", "and when is it?", "Never.", "why?"), f"{QUESTION}\nwhy?"),
        ((QUESTION, "There [1].", "How do I upload a file?"), "How do I upload a file?"),
        ((QUESTION, "There [1].", "Only for async routes?"), f"{QUESTION}\nOnly for async routes?"),
        ((QUESTION, "There [1].", "Only for the async routes?"), "Only for the async routes?"),
        (
            (QUESTION, "There [1].", "Where is the function that parses cookies?"),
            "Where is the function that parses cookies?",
        ),
        (
            (QUESTION, "There [1].", "Как андроид читает наименование ихтиологии?"),
            "Как андроид читает наименование ихтиологии?",
        ),
    ],
)
def test_a_question_too_short_to_be_found_goes_with_the_one_before(conversation: tuple[str, ...], query: str) -> None:
    assert searched(turns(*conversation)) == query


def test_the_limit_is_in_words() -> None:
    short = " ".join(["word"] * FOLLOW_UP_WORDS)
    assert searched(turns(QUESTION, "There.", short)) == f"{QUESTION}\n{short}"
    assert searched(turns(QUESTION, "There.", f"{short} more")) == f"{short} more"
    referring = " ".join(["it"] * REFERRING_WORDS)
    assert searched(turns(QUESTION, "There.", referring)) == f"{QUESTION}\n{referring}"
    assert searched(turns(QUESTION, "There.", f"{referring} more")) == f"{referring} more"


def test_questions_that_stand_for_themselves_seldom_look_as_if_they_went_on() -> None:
    lines = (Path(__file__).parents[1] / "retrieval" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert sum(searched(turns(QUESTION, "There.", text)) != text for text in texts) <= len(texts) // 100


def test_what_the_assistant_and_the_system_said_is_not_searched() -> None:
    system: Any = ChatMessage(role="system", content="You are a very helpful assistant.")
    assert searched([system, *turns("why?", "Because of these five words.", "where?")]) == "where?"
