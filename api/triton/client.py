"""The gRPC client of the ensemble: one channel, streams that end, cancels that arrive.

Every call has a time limit, so a Triton that died or hangs is a 503 and never a hang; the channel reconnects by itself
within a second of Triton's return.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from slipstream.api.errors import ApiError, Unavailable
from slipstream.api.triton.stream import Piece, Stream, refusal
from slipstream.api.triton.tensors import (
    InferInput,
    Sampling,
    numbers,
    prompt_tensor,
    question_tensors,
    sampling_tensors,
    text,
)
from slipstream.ensemble import contracts
from slipstream.ensemble.contracts import SearchRequest, SearchResult

MODELS = (contracts.EMBEDDER, contracts.RETRIEVER, contracts.GENERATOR, contracts.SEARCH, contracts.RAG)

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024**2),
    ("grpc.max_send_message_length", 64 * 1024**2),
    # gRPC waits up to two minutes between attempts by default; Triton is on this machine and restarts in seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


_CANCEL_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds.

    ``first_s`` covers the queue and the prefill: 64 waiting answers of 512 tokens take a good minute and a half on
    the reference machine. ``next_s`` is the longest silence inside an answer. ``cancel_s`` bounds the clean-up after a
    client that left.
    """

    probe_s: float = 2.0
    unary_s: float = 30.0
    first_s: float = 120.0
    next_s: float = 60.0
    cancel_s: float = 60.0


class TritonClient:
    """Calls the models at ``address`` (``host:port`` of Triton's gRPC endpoint). Belongs to one event loop."""

    def __init__(self, address: str, limits: Limits | None = None) -> None:
        self._address = address
        self._limits = limits or Limits()
        self._lazy_client: InferenceServerClient | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def _client(self) -> InferenceServerClient:
        # A gRPC channel binds itself to the running loop, which does not exist yet when the app is made.
        if self._lazy_client is None:
            self._lazy_client = InferenceServerClient(self._address, channel_args=_CHANNEL_OPTIONS)
        return self._lazy_client

    async def missing(self) -> str | None:
        """What is not ready yet, or None when every model answers."""
        try:
            for model in MODELS:
                if not await self._client.is_model_ready(model, client_timeout=self._limits.probe_s):
                    return f"model {model} is not loaded yet"
        except InferenceServerException as error:
            return f"Triton at {self._address} does not answer ({error.status() or error.message()})"
        return None

    async def embed(self, ids: Sequence[Sequence[int]], pad_token_id: int) -> NDArray[np.float32]:
        """Vectors of one batch of token ids, float32 [batch, dimension]."""
        result = await self._infer(contracts.EMBEDDER, question_tensors(ids, pad_token_id))
        embedding: NDArray[np.float32] = result.as_numpy("embedding")
        return embedding

    async def search(self, ids: Sequence[int], request: SearchRequest) -> SearchResult:
        """Hits for a query whose embedder ids are ``ids``."""
        inputs = [
            *question_tensors([ids], 0),
            text("messages", "[]"),  # no conversation: search only
            text("search", request.model_dump_json()),
            numbers("max_tokens", [1], np.int32),
        ]
        result = await self._infer(contracts.SEARCH, inputs)
        return SearchResult.model_validate_json(result.as_numpy("hits").item())

    async def generate(
        self, model: str, prompt: Sequence[InferInput], generation_id: str, sampling: Sampling
    ) -> AsyncGenerator[Piece, None]:
        """Run ``model`` (`generator` or `rag`) and yield its responses; the last one has a ``finish_reason``.

        Closing the generator early cancels the generation in the engine, in the ensemble too.

        Raises:
            ApiError: the ensemble's own refusal, or 503 when Triton fails or falls silent.
        """
        inputs = [*prompt, *sampling_tensors(generation_id, sampling)]
        stream = self._stream(model, inputs, generation_id)
        finished = False
        wait_s = self._limits.first_s
        try:
            while not finished:
                piece = await stream.next(wait_s)
                wait_s = self._limits.next_s
                if piece is None:
                    raise Unavailable("The engine ended the answer without a reason.", "engine_error")
                finished = bool(piece.finish_reason)
                yield piece
        except ApiError as error:
            # A refusal by the ensemble is the end of its stream; after a silence the engine may still be at work.
            finished = error.code != "timeout"
            raise
        finally:
            if finished:
                stream.close()
            else:
                self._abandon(stream, generation_id)

    async def close(self) -> None:
        """Let running cancels finish (briefly), then close the channel."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=1.0)
        if self._lazy_client is not None:
            await self._lazy_client.close()

    async def _infer(self, model: str, inputs: list[InferInput]) -> Any:
        try:
            async with asyncio.timeout(self._limits.unary_s):
                return await self._client.infer(model, inputs)
        except InferenceServerException as error:
            raise refusal(error.message(), self._address) from error
        except TimeoutError:
            raise Unavailable(f"{model} did not answer within {self._limits.unary_s:g} s.", "timeout") from None

    def _stream(self, model: str, inputs: list[InferInput], generation_id: str) -> Stream:
        async def requests() -> AsyncGenerator[dict[str, Any], None]:
            yield {
                "model_name": model,
                "inputs": inputs,
                "request_id": generation_id,
                "enable_empty_final_response": True,
            }

        return Stream(self._client.stream_infer(requests()), self._address)

    def _abandon(self, stream: Stream, generation_id: str) -> None:
        task = asyncio.create_task(self._cancel(stream, generation_id))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _cancel(self, stream: Stream, generation_id: str) -> None:
        """Cancel until the stream is over.

        A cancel that overtakes its own request (which is still retrieving) finds nothing to cancel, so it is sent
        again, ever more rarely, until the stream ends.
        """
        pause_s = _CANCEL_AGAIN_S
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._limits.cancel_s):
                while True:
                    await self._send_cancel(generation_id)
                    if await stream.ends_within(pause_s):
                        break
                    pause_s *= 2
        stream.close()

    async def _send_cancel(self, generation_id: str) -> None:
        nothing = Sampling(max_tokens=1, temperature=0.0, top_p=1.0, seed=None, stop=())
        inputs = [
            prompt_tensor([0]),
            *sampling_tensors(generation_id, nothing),
            numbers("cancel", [True], np.bool_),
        ]
        stream = self._stream(contracts.GENERATOR, inputs, f"cancel-{generation_id}")
        await stream.next(self._limits.unary_s)
        stream.close()
