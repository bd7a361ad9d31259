"""Responses of the HTTP surface, in OpenAI's shape."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from slipstream.ensemble.contracts import Citation, Hit


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
