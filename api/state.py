"""What every route works with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, time

from starlette.requests import Request

from slipstream.api.metrics import Metrics
from slipstream.api.timeline import Timeline
from slipstream.api.triton import TritonClient
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.tokenizer import ChatTokenizer, EmbedderTokenizer
from slipstream.settings import Settings

RAG_MODEL, BASE_MODEL, EMBEDDING_MODEL = "slipstream", "slipstream-base", "slipstream-embed"
MODELS = (RAG_MODEL, BASE_MODEL, EMBEDDING_MODEL)


@dataclass(slots=True)
class RequestRecord:
    """What the access log and the metrics say of one request; routes fill it in. Never text of the user's."""

    request_id: str
    timeline: Timeline
    started: float = field(default_factory=perf_counter)
    model: str = ""
    status: int = 0
    code: str | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    disconnected: bool = False


@dataclass(slots=True)
class Facade:
    """One per app.

    ``phase`` says how the Triton process is doing; ``generating`` counts answers under way; once ``closing`` is set,
    what still runs ends with an error.
    """

    bundle: Bundle
    settings: Settings
    triton: TritonClient
    chat_tokenizer: ChatTokenizer
    embedder_tokenizer: EmbedderTokenizer
    metrics: Metrics
    phase: Callable[[], str]
    generating: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: int = field(default_factory=lambda: int(time()))

    @property
    def fingerprint(self) -> str:
        """What OpenAI calls ``system_fingerprint``: equal values mean equal weights, prompt and engine."""
        return f"{self.bundle.manifest.release_name}@{self.bundle.manifest.id}"


def facade_of(request: Request) -> Facade:
    facade = request.app.state.facade
    assert isinstance(facade, Facade)  # noqa: S101
    return facade


def record_of(request: Request) -> RequestRecord:
    record = request.state.record
    assert isinstance(record, RequestRecord)  # noqa: S101
    return record
