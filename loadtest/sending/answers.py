"""What a server answered: the content chunks with their moments, usage, how it finished, and what is wrong with it."""

import json
from dataclasses import dataclass, field
from typing import Any

from slipstream.loadtest.sending.sse import Event, EventReader
from slipstream.loadtest.sending.timing import parse_timing, stages_of

_SOURCES = ("citations", "grounded")
_MOST_TOKENS = 10**9  # what says more is no count, and may be too large for any number of a computer


@dataclass(slots=True)
class Answer:
    """What is known of one answer so far.

    Attributes:
        chunk_s: when each non-empty content chunk came.
        texts: their contents, in order.
        stages_s: the server's own times by stage; ``timing`` is the object in which it told them.
        sources: ``citations`` and ``grounded``, where the server says what it answers from, as it says it.
        is_done: whether a stream said ``[DONE]``.
        error: what the server says went wrong, inside an answer that began well.
        fault: why it is no completion.
    """

    chunk_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    stages_s: dict[str, float] = field(default_factory=dict)
    timing: dict[str, Any] | None = None
    sources: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False
    error: str | None = None
    fault: str | None = None


class Stream:
    """Reads a streamed answer from blocks, each with the moment at which it came."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._events = EventReader()
        self._has_events = self._has_bytes = False

    def feed(self, moment_s: float, block: bytes) -> None:
        """Take the next block."""
        self._has_bytes = True
        for event in self._events.feed(block):
            self._take(moment_s, event)

    def close(self, moment_s: float) -> None:
        """Say that the server ended the stream."""
        for event in self._events.close():
            self._take(moment_s, event)
        if self._has_bytes and not self._has_events and self.answer.fault is None:
            self.answer.fault = "the answer has no events"

    def _take(self, moment_s: float, event: Event) -> None:
        answer = self.answer
        self._has_events = True
        if event.kind == "timing":
            answer.stages_s |= parse_timing(event.data.decode(errors="replace"))
        elif event.kind == "error":
            answer.error = answer.error or _message_in(event.data)
        elif event.kind not in {"", "message"} or answer.fault is not None:
            return  # not a part of the completion
        elif event.data.strip() == b"[DONE]":
            answer.is_done = True
        elif (content := _take_json(event.data, answer)) and answer.fault is None:
            answer.chunk_s.append(moment_s)
            answer.texts.append(content)


def read_whole(body: bytes) -> Answer:
    """An answer that came in one piece: it has no chunks, because no content came before all of it did."""
    answer = Answer()
    content = _take_json(body, answer)
    if content and answer.fault is None:
        answer.texts.append(content)
    return answer


def _take_json(data: bytes, answer: Answer) -> str:
    """Take a completion, or a part of one, into ``answer``; returns its content."""
    try:
        said = json.loads(data)
        if not isinstance(said, dict):
            raise ValueError("it is no object")
        if said.get("error") is not None:
            answer.error = answer.error or error_in(said)
            return ""
        choices = said.get("choices")
        if not isinstance(choices, list):
            raise ValueError("it has no choices")
        contents = [_content(choice) for choice in choices]
        for choice in choices:
            if isinstance(reason := choice.get("finish_reason"), str):
                answer.finish_reason = reason
    except (ValueError, RecursionError) as error:
        answer.fault = answer.fault or f"no JSON of a completion: {error}"[:200]
        return ""
    if isinstance(usage := said.get("usage"), dict):
        answer.prompt_tokens = _number(usage.get("prompt_tokens"), answer.prompt_tokens)
        answer.output_tokens = _number(usage.get("completion_tokens"), answer.output_tokens)
    if isinstance(timing := said.get("timing"), dict):
        answer.timing = timing
        answer.stages_s |= stages_of(timing)
    if "citations" in said:
        answer.sources = {name: said[name] for name in _SOURCES if name in said}
    return "".join(contents)


def _content(choice: Any) -> str:
    """Of a chat's delta or message, or of a text completion; empty where there is none.

    Raises:
        ValueError: what stands in its place is no text.
    """
    if not isinstance(choice, dict):
        raise ValueError("a choice is no object")
    part = choice.get("delta", choice.get("message"))
    content = part.get("content") if isinstance(part, dict) else choice.get("text")
    if content is None:
        return ""
    if not isinstance(content, str):
        raise ValueError("a content is no text")
    return content


def _number(value: Any, otherwise: int | None) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if is_count else otherwise


def error_in(said: Any) -> str:
    """The message of an error as OpenAI writes it, ``{"error": {"message": ...}}``, or whatever stands in its place."""
    error = said.get("error", said) if isinstance(said, dict) else said
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:200]


def _message_in(data: bytes) -> str:
    try:
        return error_in(json.loads(data))
    except (ValueError, RecursionError):
        return data.decode(errors="replace").strip()[:200]


__all__ = ["Answer", "Stream", "error_in", "read_whole"]
