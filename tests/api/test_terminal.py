"""`slipstream ask`: what it prints, for people and for machines, and what it says when it gets no answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from slipstream.api.app import create_app
from slipstream.api.listener import address_of, bind
from slipstream.api.terminal import url_of
from slipstream.api.triton import TritonClient
from slipstream.cli import main
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.contracts import encode_error
from slipstream.settings import Settings
from tests.api.conftest import PATIENT
from tests.api.scripted import HITS, Drop, Fail, Say, ScriptedTriton
from tests.api.serving import served
from tests.api.test_chat import ANSWER
from tests.api.test_not_found import DECLINED, SENTENCE

QUESTION = "Where is the retry budget?"
Ask = Callable[..., Any]


@pytest.fixture
async def url(bundle: Bundle, settings: Settings, triton: ScriptedTriton) -> AsyncIterator[str]:
    """A facade on a real port, in front of ``triton``."""
    app = create_app(bundle, settings, TritonClient(triton.address, PATIENT))
    async with served(app, "on") as address:
        with structlog.testing.capture_logs():  # the server's log would land in what `ask` prints
            yield address


async def ask(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["ask", *arguments])


async def test_the_answer_is_followed_by_its_sources(url: str, triton: ScriptedTriton) -> None:
    triton.says(*ANSWER)
    done = await ask(QUESTION, "--url", url)
    assert done.exit_code == 0, done.output
    question, _, answer, _, *sources, facts = done.output.splitlines()
    assert question == f"? {QUESTION}"
    assert answer == "In the бюджет 😀 [2] and [1]."
    assert sources == ["  [2] retry/loop.py:10-20  loop", "  [1] retry/budget.py:10-20  budget"]
    assert "9 tokens" in facts


async def test_neither_answer_nor_source_can_steer_the_terminal(url: str, triton: ScriptedTriton) -> None:
    hit = HITS["hits"][0] | {"path": "a\x1b]0;x\x07\n.py", "symbol": "f\x9b2J\u202e"}  # type: ignore[index]
    hits = json.dumps(HITS | {"hits": [hit]})
    triton.says(Say("a\n\x1b[2J👩\u200d💻 [1]", "stop", completion_tokens=1, hits=hits))
    done = await ask(QUESTION, "--url", url)
    assert "a\n\\x1b[2J👩\u200d💻 [1]\n" in done.output
    assert "  [1] a\\x1b]0;x\\x07\\n.py:10-20  f\\x9b2J\\u202e\n" in done.output


@pytest.mark.parametrize("cut", range(1, len("see [12]. End")))
async def test_a_mark_is_whole_wherever_the_stream_is_cut(url: str, triton: ScriptedTriton, cut: int) -> None:
    text = "see [12]. End"
    triton.says(Say(text[:cut], completion_tokens=1), Say(text[cut:], "stop", completion_tokens=2))
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    arguments = ["ask", QUESTION, "--url", url]
    done = await asyncio.to_thread(CliRunner(env=environment).invoke, main, arguments, color=True)
    assert "\x1b[1;32m[12]\x1b[0m" in done.output


async def test_an_answer_for_machines_is_one_object(url: str, triton: ScriptedTriton) -> None:
    triton.says(*ANSWER)
    done = await ask(QUESTION, "--url", f"{url}/v1/", "--json")
    reply = json.loads(done.output)
    assert reply["question"] == QUESTION
    assert reply["answer"] == "In the бюджет 😀 [2] and [1]."
    assert [citation["path"] for citation in reply["citations"]] == ["retry/loop.py", "retry/budget.py"]
    assert reply["finish_reason"] == "stop"
    assert reply["usage"]["total_tokens"] == 20


async def test_an_answer_that_was_cut_says_so(url: str, triton: ScriptedTriton) -> None:
    triton.says(Say("So", "length", completion_tokens=1))
    done = await ask(QUESTION, "--url", url, "--model", "slipstream-base", "--max-tokens", "1")
    assert "not from the indexed code" in done.output
    assert "cut at the token limit" in done.output


async def test_what_was_not_found_is_told_and_marked(url: str, triton: ScriptedTriton) -> None:
    triton.says(DECLINED)
    done = await ask("Where is the ORM?", "--url", url)
    assert SENTENCE in done.output
    assert "not found in the indexed code; nothing was generated" in done.output
    assert "tokens/s" not in done.output
    triton.says(DECLINED)
    reply = json.loads((await ask("Where is the ORM?", "--url", url, "--json")).output)
    assert (reply["grounded"], reply["citations"]) == (False, [])


async def test_a_refusal_is_told_with_its_reason(url: str, triton: ScriptedTriton) -> None:
    triton.says(
        Fail(encode_error("collection_not_found", "There is no collection 'x' (slipstream index)", "collection"))
    )
    done = await ask(QUESTION, "--url", url, "--collection", "x")
    assert done.exit_code == 2
    assert "There is no collection 'x' (slipstream index)" in done.output


async def test_an_answer_that_breaks_off_is_an_error(url: str, triton: ScriptedTriton) -> None:
    triton.says(Say("Half an", completion_tokens=1), Drop())
    done = await ask(QUESTION, "--url", url)
    assert done.exit_code == 2
    assert "Half an" in done.output
    assert "broke off" in done.output


async def test_a_server_that_is_not_ready_says_to_wait(url: str, triton: ScriptedTriton) -> None:
    triton.says(Fail("Request for unknown model: 'rag' is not found"))
    done = await ask(QUESTION, "--url", url)
    assert done.exit_code == 2
    assert "/health/ready" in done.output


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as listener:
        address = address_of(listener)
    done = CliRunner().invoke(main, ["ask", QUESTION, "--url", address])
    assert done.exit_code == 2
    assert address in done.output
    assert "slipstream serve" in done.output


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://localhost", "http://[x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    done = CliRunner().invoke(main, ["ask", QUESTION, "--url", url])
    assert done.exit_code == 2
    assert url in done.output


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("code.example", "http://code.example:80"),
    ],
)
def test_a_server_is_asked_where_it_can_be_reached(host: str, url: str) -> None:
    assert url_of(host, 80) == url
