"""``POST /v1/chat/completions``: answers with citations, streamed or whole.

``slipstream`` searches a collection with the last user message and answers from what it finds, or says that it found
nothing; earlier turns are history. ``slipstream-base`` is the generator alone under the chat template.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import perf_counter, time
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipstream.api.errors import ApiError, Unavailable
from slipstream.api.requests import ChatRequest
from slipstream.api.responses import ChatCompletion
from slipstream.api.routes.answers import Answer, whole
from slipstream.api.routes.conversation import check_model, prompt_tensors, sampling
from slipstream.api.routes.delivery import read_body, while_connected
from slipstream.api.routes.sse import EventStream
from slipstream.api.state import BASE_MODEL, RAG_MODEL, Facade, RequestRecord, facade_of, record_of
from slipstream.api.triton import Piece
from slipstream.ensemble import contracts

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatCompletion)
async def chat_completions(request: Request) -> Response:
    """Answer a conversation; server-sent events with ``stream``."""
    facade, record = facade_of(request), record_of(request)
    with record.timeline.ran("queue"):
        body = await read_body(request, ChatRequest)
    check_model(body.model, (RAG_MODEL, BASE_MODEL), record)
    wanted = sampling(facade, body)
    # What the facade tokenizes is the generator's whole prompt, or the question as the embedder reads it.
    with record.timeline.ran("prompt" if body.model == BASE_MODEL else "embed"):
        prompt = await prompt_tensors(facade, body, wanted)
    generation_id = uuid4().hex
    triton_model = contracts.RAG if body.model == RAG_MODEL else contracts.GENERATOR
    pieces = facade.triton.generate(triton_model, prompt, generation_id, wanted, record.request_id)
    answer = Answer(
        id=f"chatcmpl-{generation_id}",
        created=int(time()),
        model=body.model,
        fingerprint=facade.fingerprint,
        pieces=_admitted(facade, pieces, record),
        timeline=record.timeline,
    )
    record.timeline.completion_id = answer.id
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(answer, record, facade.closing, include_usage=include_usage)
    completion = await while_connected(request.receive, whole(answer), facade.closing)
    return Response(completion.model_dump_json(), media_type="application/json")


async def _admitted(
    facade: Facade, pieces: AsyncGenerator[Piece, None], record: RequestRecord
) -> AsyncGenerator[Piece, None]:
    """``pieces``, if there is a slot or a place in the queue for them; measured on the way.

    Raises:
        ApiError: 429 when the queue is full, before anything reaches Triton; 503 when the engine dropped the answer.
    """
    serving = facade.bundle.manifest.serving
    if facade.generating >= serving.max_concurrency + serving.max_waiting:
        raise ApiError(429, "Every slot and the queue are full; try again shortly.", code="overloaded")
    facade.generating += 1
    last: Piece | None = None
    first_at = 0.0
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.finish_reason in ("cancelled", "error"):
                    raise Unavailable("The engine dropped this answer.", "engine_error")
                if not first_at and piece.text:
                    first_at = perf_counter()
                last = piece
                with record.timeline.delivering(piece):
                    yield piece
    finally:
        facade.generating -= 1
        if last is not None:
            _measure(facade, record, last, first_at)


def _measure(facade: Facade, record: RequestRecord, last: Piece, first_at: float) -> None:
    record.prompt_tokens, record.completion_tokens = last.prompt_tokens, last.completion_tokens
    if last.finish_reason and not last.prompt_tokens:  # declined: no engine whose time or tokens could be measured
        facade.metrics.declined.labels(record.model).inc()
        return
    facade.metrics.tokens.labels(record.model, "prompt").inc(last.prompt_tokens)
    facade.metrics.tokens.labels(record.model, "completion").inc(last.completion_tokens)
    if not first_at:
        return
    record.ttft_s = first_at - record.started
    facade.metrics.ttft.labels(record.model).observe(record.ttft_s)
    if last.finish_reason and last.completion_tokens > 1:
        record.tpot_s = (perf_counter() - first_at) / (last.completion_tokens - 1)
        facade.metrics.tpot.labels(record.model).observe(record.tpot_s)
