"""An answer under way, and the whole of it as one response."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypedDict

from slipstream.api.responses import AnswerMessage, ChatCompletion, Choice, Usage
from slipstream.api.timeline import Timeline
from slipstream.api.triton import Piece
from slipstream.ensemble.citations import resolve
from slipstream.ensemble.contracts import Citation, Evidence


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer under way: its identity, the responses of the generator as they come, and where its time goes."""

    id: str
    created: int
    model: str
    fingerprint: str
    pieces: AsyncGenerator[Piece, None]
    timeline: Timeline


async def whole(answer: Answer) -> ChatCompletion:
    """Wait for all of ``answer``.

    Raises:
        ApiError: the ensemble refused or failed, at whatever point.
    """
    texts: list[str] = []
    hits = b""
    async with aclosing(answer.pieces) as pieces:
        async for piece in pieces:
            texts.append(piece.text)
            hits = hits or piece.hits
    text = "".join(texts)
    return ChatCompletion(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        system_fingerprint=answer.fingerprint,
        choices=[Choice(message=AnswerMessage(content=text), finish_reason=piece.finish_reason)],
        **sources(text, hits),
        usage=usage(piece),
    )


class Sources(TypedDict):
    """Where an answer comes from, as fields of its response; `ChatCompletion` says what they mean."""

    citations: list[Citation]
    grounded: bool


def sources(text: str, hits: bytes) -> Sources:
    """The sources of an answer, given the ``hits`` tensor; the bare generator has none."""
    contexts = Evidence.model_validate_json(hits).hits if hits else []
    return {"citations": resolve(text, contexts), "grounded": bool(contexts)}


def usage(last: Piece) -> Usage:
    """OpenAI's ``usage`` from the last response's counts."""
    total = last.prompt_tokens + last.completion_tokens
    return Usage(prompt_tokens=last.prompt_tokens, completion_tokens=last.completion_tokens, total_tokens=total)
