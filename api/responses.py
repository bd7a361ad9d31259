"""Responses of the HTTP surface, in OpenAI's shape."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from slipstream.ensemble.contracts import Citation, Hit
from slipstream.profiling.spans import Stage


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class Usage(_Response):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(_Response):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(_Response):
    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(_Response):
    """``citations`` are in the order of the ``[n]`` marks of the text.

    ``grounded``: the answer was made from contexts of the collection. It is false for an honest "not found in the
    indexed code", which nothing was computed for (0 prompt tokens), and for everything that `slipstream-base` says.
    """

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    citations: list[Citation]
    grounded: bool
    usage: Usage


class SearchResponse(_Response):
    hits: list[Hit]
    collection: str
    index_version: str
    confidence: float


class ModelCard(_Response):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "slipstream"


class ModelList(_Response):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Timing(_Response):
    """Where the time of a request went, in milliseconds; for a client that sent ``x-slipstream-timing: 1``.

    ``spans`` are the stages that the request went through one after the other: name, begin since the request was
    received, and duration; each decode step is one. ``stages`` are their sums. ``queue`` is every wait for the next
    stage, ways between processes included; a stage that a cache answered took 0. ``beside`` is what was done to earlier
    tokens while the engine computed the next ones, and so added nothing. A response header leaves out ``spans`` and
    ``beside``.
    """

    id: str | None
    request_id: str
    received_unix_s: float
    ttft_ms: float | None
    end_to_end_ms: float
    stages: dict[Stage, float]
    decode_steps: int
    cached_prompt_tokens: int | None = None
    """None where the engine does not tell."""
    spans: list[tuple[Stage, float, float]]
    beside: dict[Stage, float]
