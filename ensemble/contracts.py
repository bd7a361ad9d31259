"""The tensors and error shapes that cross between the facade and the Triton ensemble.

========== ============================================================ =========================================
model      inputs                                                       outputs
========== ============================================================ =========================================
embedder   ``input_ids``, ``attention_mask`` INT64 [batch, length]      ``embedding`` FP32 [batch, dimension],
                                                                        ``embed_ns`` INT64 [2] (not from the native
                                                                        backend)
retriever  ``embedding`` FP32 [1, dimension], ``messages`` BYTES [1],   ``hits`` BYTES [1] (JSON, `Evidence`),
           ``search`` BYTES [1] (JSON, `SearchRequest`),                ``prompt_ids`` INT32 [length],
           ``max_tokens`` INT32 [1]                                     ``retrieve_ns`` INT64 [4]
generator  ``prompt_ids`` INT32 [length], ``generation_id`` BYTES [1],  ``text`` BYTES [1], ``finish_reason`` BYTES [1],
           ``hits`` BYTES [1] (optional, passed through),               ``token_counts`` INT32 [2] (prompt, completion),
           ``embed_ns`` INT64 [2], ``retrieve_ns`` INT64 [4]            ``hits`` BYTES [1] (first response, then empty),
           (both optional, passed through),                             ``marks_ns`` INT64 [n] (`stage_marks`)
           ``max_tokens`` INT32 [1], ``temperature`` FP32 [1],
           ``top_p`` FP32 [1], ``seed`` INT64 [1] (-1: none),
           ``stop`` BYTES [n] (an empty string stops nothing),
           ``ignore_eos`` BOOL [1] (end at ``max_tokens`` only),
           ``cancel`` BOOL [1] (optional)
rag        question ids and mask, messages, search, sampling, id        the generator's
search     question ids and mask, messages, search, max_tokens          ``hits``, ``embed_ns``, ``retrieve_ns``
========== ============================================================ =========================================

A citation cannot leave the retriever directly: Triton refuses ensemble outputs that mix a decoupled step with an
earlier one, so ``hits`` pass through the generator and come back with its first response.

What ends with ``_ns`` says when stages ran (`stage_marks`). It leaves the models as an output and enters none but the
generator, so that a response cache in front of embedder and retriever still finds equal inputs equal; from a cache come
the times of the request that was computed. The id of Triton's own request names the client's request.

``messages`` is a JSON list of ``{"role", "content"}``; an empty one asks for the hits alone (JSON, `SearchResult`),
without a prompt. ``prompt_ids`` are empty too where the evidence is declined: then the answer is its sentence, the
engine reads nothing and counts 0 prompt tokens, and the completion tokens are those of the sentence, which
``ignore_eos`` does not lengthen.
``finish_reason`` is empty until the last response, which carries the final counts.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EMBEDDER, RETRIEVER, GENERATOR, RAG, SEARCH = "embedder", "retriever", "generator", "rag", "search"

MAX_SEARCH_LIMIT = 100
RETRIEVED_CHUNKS = 30
"""How many chunks the retriever may choose contexts from; the token budget of the bundle decides how many fit."""
SURE = 0.5
"""A search at least so confident is worth an answer; `retrieval.confidence` is calibrated to that."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchFilter(_Frozen):
    """Narrows a search; every field given must match."""

    repo: str | None = None
    language: str | None = None
    path_prefix: str | None = None


class SearchRequest(SearchFilter):
    """What to look for and where. The query text rides along for the sparse half of the hybrid search.

    ``revision``: a commit, branch or tag as it was indexed; without it the version published last is searched.
    """

    query: str
    collection: str
    revision: str | None = None
    limit: int = Field(default=10, ge=1, le=MAX_SEARCH_LIMIT)


class Hit(_Frozen):
    """A chunk that was found. Lines are 1-based and inclusive; a higher score is a better match.

    ``empty_after`` lines behind it hold nothing at all, as far as the index knows; it is no part of the JSON.
    """

    path: str
    line_start: int
    line_end: int
    symbol: str
    repo: str
    language: str
    score: float
    text: str
    empty_after: int = Field(default=0, exclude=True)


class SearchResult(_Frozen):
    """Hits, best first; ``confidence`` says how sure the search is that they answer (`retrieval.confidence`)."""

    hits: list[Hit]
    collection: str
    index_version: str
    confidence: float = Field(ge=0, le=1)


class Evidence(SearchResult):
    """What an answer is made from: hit ``i`` is the context of the prompt that ``[i + 1]`` cites.

    ``declined`` is said instead of an answer where the search found none. There are no hits then and no prompt, and the
    engine is not asked.
    """

    declined: str = ""


class Citation(_Frozen):
    """One ``[n]`` mark of an answer, resolved to lines of an indexed file."""

    path: str
    line_start: int
    line_end: int
    symbol: str
    repo: str
    score: float


ErrorCode = Literal[
    "invalid_request", "context_length_exceeded", "collection_not_found", "revision_not_found", "embedder_mismatch",
    "collection_outdated",
    "index_unavailable",
    "overloaded", "engine_error",
]  # fmt: skip


def encode_error(code: ErrorCode, message: str, param: str | None = None) -> str:
    """An error as the one string that survives Triton's streaming protocol (it drops status codes there)."""
    return "slipstream:" + json.dumps({"code": code, "message": message, "param": param}, ensure_ascii=False)


def decode_error(text: str) -> dict[str, Any] | None:
    """The fields of `encode_error` found anywhere in ``text`` (Triton adds prefixes), or None for a foreign error."""
    start = text.find("slipstream:{")
    if start < 0:
        return None
    try:
        fields, _ = json.JSONDecoder().raw_decode(text[start + len("slipstream:") :])
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
