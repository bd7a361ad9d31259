"""Requests of the HTTP surface, in OpenAI's shape.

They are strict: ``"1"`` is no number, ``1.0`` no integer, NaN no temperature, and a parameter that nobody knows is
an error. A list is given up at its first bad element, because a body has room for many. Of OpenAI's other parameters,
those that would change the answer are refused unless they hold the value that changes nothing (``tools: []``), and
those that only label the request are taken and ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from slipstream.ensemble.contracts import MAX_SEARCH_LIMIT

MAX_MESSAGES = 256
MAX_PARTS = 256
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256
MAX_EMBEDDING_INPUTS = 2048
MAX_COMMENT_CHARACTERS = 4000


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Parameters that we do not implement, and the values (beside null) with which they change nothing."""


def _refuse_unless_neutral(value: Any, info: ValidationInfo) -> Any:
    # By type as well: to Python, false equals 0 and 0.0.
    if value is None or any(type(value) is type(same) and value == same for same in _NEUTRAL[info.field_name or ""]):
        return value
    raise PydanticCustomError("unsupported_parameter", "This server does not support it; leave it out")


Unsupported = Annotated[Any, AfterValidator(_refuse_unless_neutral), Field(description="Refused unless neutral.")]
Ignored = Annotated[Any, Field(description="Taken and ignored.")]
NonEmpty = Annotated[str, Field(min_length=1)]
RevisionName = Annotated[str, Field(min_length=1, max_length=255)]
CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]


class TextPart(_Request):
    type: Literal["text"]
    text: str


def _refuse_null_of_others(value: Any, info: ValidationInfo) -> Any:
    """An assistant's turn has no content when it refused or called a tool."""
    if value is None and info.data.get("role") != "assistant":
        raise PydanticCustomError("null_content", "Only an assistant's content may be null")
    return value


class ChatMessage(_Request):
    """One turn. Fields of an answer that is sent back as history (``refusal``, ``annotations``) are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)] | None,
        AfterValidator(_refuse_null_of_others),
    ]
    tool_calls: Unsupported = None
    function_call: Unsupported = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())


class StreamOptions(_Request):
    include_usage: bool | None = None
    include_obfuscation: Ignored = None


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ChatRequest(_Request):
    """``POST /v1/chat/completions``.

    ``temperature`` defaults to 0, not to OpenAI's 1: an answer that cites source code should repeat itself.
    ``collection`` is ours: which indexed code base answers. ``ignore_eos`` is vLLM's: the answer goes on to its limit
    of tokens, unless a ``stop`` ends it, so that servers can be compared on the same amount of work.
    """

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    collection: CollectionName | None = None
    revision: RevisionName | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: (
        Annotated[
            list[Annotated[NonEmpty, Field(max_length=MAX_STOP_CHARACTERS)]],
            Field(max_length=MAX_STOPS, fail_fast=True),
            BeforeValidator(_stops, json_schema_input_type=str | list[str]),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    ignore_eos: bool | None = None

    audio: Unsupported = None
    frequency_penalty: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    logit_bias: Unsupported = None
    logprobs: Unsupported = None
    modalities: Unsupported = None
    presence_penalty: Unsupported = None
    reasoning_effort: Unsupported = None
    response_format: Unsupported = None
    tool_choice: Unsupported = None
    tools: Unsupported = None
    top_logprobs: Unsupported = None
    verbosity: Unsupported = None
    web_search_options: Unsupported = None

    metadata: Ignored = None
    parallel_tool_calls: Ignored = None
    prediction: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    user: Ignored = None

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """The field that bounds the answer and its value; OpenAI's newer name wins."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return ("max_tokens", self.max_tokens) if self.max_tokens is not None else None


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int | list) and not isinstance(value[0], bool):
        raise PydanticCustomError("unsupported_value", "Token ids belong to another tokenizer; send text")
    return value


class EmbeddingRequest(_Request):
    """``POST /v1/embeddings``. Text over the embedder's limit is refused, as OpenAI does, never cut silently."""

    model: str
    input: Annotated[
        list[NonEmpty],
        Field(min_length=1, max_length=MAX_EMBEDDING_INPUTS, fail_fast=True),
        BeforeValidator(_texts, json_schema_input_type=str | list[str]),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: Ignored = None


class SearchQuery(_Request):
    """``POST /v1/search``."""

    query: NonEmpty
    collection: CollectionName | None = None
    revision: RevisionName | None = None
    limit: int = Field(default=10, ge=1, le=MAX_SEARCH_LIMIT)
    repo: str | None = None
    language: str | None = None
    path_prefix: str | None = None


class FeedbackRequest(_Request):
    """``POST /v1/feedback``. Only what is given here is kept; neither question nor answer is looked up."""

    completion_id: str = Field(pattern=r"^chatcmpl-[0-9a-f]{32}$")
    rating: Literal["up", "down"]
    comment: str | None = Field(default=None, max_length=MAX_COMMENT_CHARACTERS)
