"""What the generator is asked, what it answers, and where its answers go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from slipstream.engines.protocols import Sampling
from slipstream.ensemble.contracts import ErrorCode


@dataclass(frozen=True, slots=True)
class Response:
    """One response of the generator model; the last one has a ``finish_reason``. ``marks`` as in `stage_marks`."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    hits: str
    marks: Sequence[int] = ()


class Refusal(Exception):
    """A request that is not taken, in the terms of `contracts.encode_error`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


class Sink(Protocol):
    """Where the responses of one generation go."""

    def send(self, response: Response) -> None:
        """Deliver one response; the one with a finish reason is the last."""
        ...

    def fail(self, code: ErrorCode, message: str) -> None:
        """End with an error."""
        ...

    def is_gone(self) -> bool:
        """Whether the client left, as far as Triton tells (it does not inside an ensemble)."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the generator. ``hits`` is the retriever's JSON, empty when the prompt has no contexts.

    ``embed_ns`` and ``retrieve_ns`` are the marks of the stages before (`stage_marks`), empty where none ran.
    """

    generation_id: str
    prompt_ids: Sequence[int]
    sampling: Sampling
    stop: Sequence[str] = ()
    hits: str = ""
    request_id: str = ""
    embed_ns: Sequence[int] = ()
    retrieve_ns: Sequence[int] = ()
