"""A question and its streamed answer on a terminal, with the sources beneath."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import httpx
from rich.console import Console
from rich.text import Text

from slipstream import EnvironmentFault, InputError
from slipstream.ensemble.citations import MARK, cited_numbers

_UNFINISHED_MARK = re.compile(r"\[\d{0,3}$")
# Control characters but tab and line feed, and what turns the direction of writing.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ServerUnreachable(EnvironmentFault):
    """Nothing answers at the address, or it stopped answering half way."""


class QuestionRefused(InputError):
    """The server answered that it will not answer this."""


@dataclass(slots=True)
class Reply:
    """A finished answer. ``tokens_per_s`` counts from the first token."""

    question: str
    answer: str = ""
    model: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    grounded: bool = True
    finish_reason: str = ""
    ttft_s: float = 0.0
    tokens_per_s: float = 0.0


def url_of(host: str, port: int) -> str:
    """Where a server that binds ``host`` is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def stream_reply(base_url: str, body: dict[str, Any], reply: Reply) -> Iterator[str]:
    """Send ``body`` as a streamed chat and yield the texts as they come; ``reply`` is filled in on the way.

    Raises:
        ServerUnreachable: no server, or it failed.
        QuestionRefused: the server refused the request (4xx).
    """
    started = perf_counter()
    body = body | {"stream": True, "stream_options": {"include_usage": True}}
    timeout = httpx.Timeout(10.0, read=300.0)
    try:
        # The server is on this machine or named outright: proxies of the environment do not apply.
        with (
            httpx.Client(trust_env=False, timeout=timeout) as client,
            client.stream("POST", f"{base_url}/v1/chat/completions", json=body) as response,
        ):
            _raise_for_refusal(response)
            for chunk in _chunks(response):
                text = _take(chunk, reply)
                if text and not reply.ttft_s:
                    reply.ttft_s = perf_counter() - started
                if text:
                    yield text
    except httpx.TransportError as error:
        raise ServerUnreachable(f"no answer from {base_url}: {error}", "slipstream serve") from error
    rest_s = perf_counter() - started - reply.ttft_s
    reply.tokens_per_s = max(reply.usage.get("completion_tokens", 0) - 1, 0) / rest_s if rest_s else 0.0


def _chunks(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return
        if not data:
            continue
        chunk: dict[str, Any] = json.loads(data)
        if "error" in chunk:
            raise ServerUnreachable(f"the answer broke off: {chunk['error']['message']}", "ask again")
        yield chunk


def _take(chunk: dict[str, Any], reply: Reply) -> str:
    reply.model = chunk["model"]
    reply.usage = chunk.get("usage") or reply.usage
    reply.citations = chunk.get("citations") or reply.citations
    reply.grounded = chunk.get("grounded", reply.grounded)
    text = ""
    for choice in chunk["choices"]:
        text += choice["delta"].get("content") or ""
        reply.finish_reason = choice["finish_reason"] or reply.finish_reason
    reply.answer += text
    return text


def _raise_for_refusal(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code}"
    if response.is_client_error:
        raise QuestionRefused(message, "slipstream ask --help")
    raise ServerUnreachable(message, "wait for GET /health/ready to answer 200, or read the server's log")


def show(base_url: str, question: str, body: dict[str, Any], *, as_json: bool = False) -> Reply:
    """Ask and print: the question, the answer as it comes, its sources; or one JSON object."""
    reply = Reply(question)
    texts = stream_reply(base_url, body, reply)
    if as_json:
        for _ in texts:
            pass
        print(json.dumps(asdict(reply), ensure_ascii=False))  # noqa: T201
        return reply
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(("? ", "bold cyan"), (question, "bold")))
    console.print()
    for text in _whole_marks(texts):
        console.print(_marked(text), end="")
    console.print("\n")
    _print_sources(console, reply)
    return reply


def _whole_marks(texts: Iterator[str]) -> Iterator[str]:
    """``texts`` cut so that no ``[n]`` lies across two of them and can be coloured as one."""
    held = ""
    for text in texts:
        held += text
        unfinished = _UNFINISHED_MARK.search(held)
        end = unfinished.start() if unfinished else len(held)
        if held[:end]:
            yield held[:end]
        held = held[end:]
    if held:
        yield held


def _marked(text: str) -> Text:
    styled = Text(_spelled(text))
    styled.highlight_regex(MARK, "bold green")
    return styled


def _spelled(text: str) -> str:
    """``text`` with what would steer the terminal spelled out: names and answers are whatever somebody wrote."""
    return _STEERING.sub(lambda match: repr(match[0])[1:-1], text)


def _print_sources(console: Console, reply: Reply) -> None:
    for number, citation in zip(cited_numbers(reply.answer), reply.citations, strict=False):
        path, symbol = (_spelled(citation[name]).replace("\n", "\\n") for name in ("path", "symbol"))
        place = f"{path}:{citation['line_start']}-{citation['line_end']}"
        console.print(Text.assemble((f"  [{number}] ", "bold green"), (place, "cyan"), (f"  {symbol}", "dim")))
    if not reply.usage.get("prompt_tokens", 1):
        console.print(Text("  not found in the indexed code; nothing was generated", "yellow"))
        return
    if not reply.citations:
        console.print(Text("  no sources cited" if reply.grounded else "  not from the indexed code", "dim"))
    tokens = reply.usage.get("completion_tokens", 0)
    ending = " · cut at the token limit" if reply.finish_reason == "length" else ""
    facts = f"  first token after {reply.ttft_s:.2f} s · {tokens} tokens · {reply.tokens_per_s:.0f} tokens/s{ending}"
    console.print(Text(facts, "dim"))
