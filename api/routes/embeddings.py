"""``POST /v1/embeddings``: vectors from the embedder that the index was made with."""

from base64 import b64encode
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from slipstream.api.errors import ApiError
from slipstream.api.requests import EmbeddingRequest
from slipstream.api.routes.conversation import CHARACTERS_PER_TOKEN, check_model, off_loop
from slipstream.api.routes.delivery import read_body, while_connected
from slipstream.api.state import EMBEDDING_MODEL, Facade, RequestRecord, facade_of, record_of
from slipstream.ensemble.tokenizer import EmbedderTokenizer

router = APIRouter()

_BATCH = 16
"""Small enough that the question of a chat, which shares the embedder, waits for one batch only."""


@router.post("/v1/embeddings")
async def embeddings(request: Request) -> Response:
    """Embed a text or a list of texts."""
    facade, record = facade_of(request), record_of(request)
    with record.timeline.ran("queue"):
        body = await read_body(request, EmbeddingRequest)
    check_model(body.model, (EMBEDDING_MODEL,), record)
    dimension = facade.embedder_tokenizer.dimension
    if body.dimensions not in (None, dimension):
        message = f"dimensions: this model's vectors have {dimension}, and they cannot be shortened."
        raise ApiError(400, message, code="invalid_value", param="dimensions")
    with record.timeline.ran("embed"):
        ids = await _encode(facade.embedder_tokenizer, body.input)
    vectors = await while_connected(request.receive, _embed(facade, ids, record), facade.closing)
    record.prompt_tokens = tokens = sum(map(len, ids))
    facade.metrics.tokens.labels(record.model, "prompt").inc(tokens)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    content = {"object": "list", "data": data, "model": body.model, "usage": usage}
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


async def _encode(tokenizer: EmbedderTokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of every text.

    Raises:
        ApiError: 400, a text is longer than the embedder reads.
    """

    def whole_ids(texts: list[str]) -> list[list[int]]:
        ids = tokenizer.encode(texts)
        for index, (text, row) in enumerate(zip(texts, ids, strict=True)):
            if len(row) >= tokenizer.max_tokens and tokenizer.is_truncated(text):
                raise _too_long(index, tokenizer.max_tokens)
        return ids

    for index, text in enumerate(texts):
        if len(text) > tokenizer.max_tokens * CHARACTERS_PER_TOKEN:
            raise _too_long(index, tokenizer.max_tokens)
    return await off_loop(whole_ids, texts, sum(map(len, texts)))


def _too_long(index: int, most: int) -> ApiError:
    message = f"input[{index}] is longer than the {most} tokens that the embedder reads."
    return ApiError(400, message, code="context_length_exceeded", param=f"input[{index}]")


async def _embed(facade: Facade, ids: list[list[int]], record: RequestRecord) -> NDArray[np.float32]:
    """Vectors in the order of ``ids``; batches hold texts of like length, so that little is padding."""
    vectors = np.empty((len(ids), facade.embedder_tokenizer.dimension), np.float32)
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        rows = [ids[index] for index in batch]
        embedded = await facade.triton.embed(rows, facade.embedder_tokenizer.pad_token_id, record.request_id)
        record.timeline.tell(embedded.marks)
        vectors[batch] = embedded.vectors
    return vectors


def _encoded(vector: NDArray[np.float32], encoding: str | None) -> Any:
    """As OpenAI encodes it: numbers, or base64 of little-endian float32."""
    return b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector
