"""The gRPC client of the ensemble: one channel, streams that end, cancels that arrive.

Every call has a time limit, so a Triton that died or hangs is a 503 and never a hang; the channel reconnects by itself
within a fraction of a second of Triton's return.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelReadyRequest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from slipstream.api.errors import ApiError, Unavailable
from slipstream.api.triton.stream import Piece, Stream, refusal
from slipstream.api.triton.tensors import (
    Sampling,
    Tensor,
    element,
    integers,
    matrix,
    numbers,
    outputs,
    prompt_tensor,
    question_tensors,
    sampling_tensors,
    texts,
)
from slipstream.ensemble import contracts
from slipstream.ensemble.contracts import SearchRequest, SearchResult
from slipstream.ensemble.stage_marks import EMBED_NS, RETRIEVE_NS, Before

MODELS = (contracts.EMBEDDER, contracts.RETRIEVER, contracts.GENERATOR, contracts.SEARCH, contracts.RAG)

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024**2),
    ("grpc.max_send_message_length", 64 * 1024**2),
    # gRPC waits up to two minutes between attempts by default; Triton is on this machine and restarts in seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name, how long one attempt may take. A handshake on a busy machine may need seconds.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 250),
]

_CANCEL_AGAIN_S = 0.05
_CANCEL_AGAIN_MOST_S = 0.2
_NOTHING = Sampling(max_tokens=1, temperature=0.0, top_p=1.0, seed=None, stop=())


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


class Embedded(NamedTuple):
    """Vectors float32 [batch, dimension], and when they were computed."""

    vectors: NDArray[np.float32]
    marks: Before


class Searched(NamedTuple):
    """What was found, and when."""

    result: SearchResult
    marks: Before


class TritonClient:
    """Calls the models at ``address`` (``host:port`` of Triton's gRPC endpoint). Belongs to one event loop.

    The protocol's stubs are used as they are: a client library on top would wrap every token once more.
    """

    def __init__(self, address: str, limits: Limits | None = None) -> None:
        self._address = address
        self._limits = limits or Limits()
        self._channel: grpc.aio.Channel | None = None
        self._lazy_stub: Any = None
        self._abandoned: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def _stub(self) -> Any:
        # A gRPC channel binds itself to the running loop, which does not exist yet when the app is made.
        if self._lazy_stub is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
            self._lazy_stub = GRPCInferenceServiceStub(self._channel)
        return self._lazy_stub

    async def missing(self) -> str | None:
        """What is not ready yet, or None when every model answers."""
        try:
            for model in MODELS:
                reply = await self._stub.ModelReady(ModelReadyRequest(name=model), timeout=self._limits.probe_s)
                if not reply.ready:
                    return f"model {model} is not loaded yet"
        except grpc.aio.AioRpcError as error:
            return f"Triton at {self._address} does not answer ({error.code().name})"
        return None

    async def embed(self, ids: Sequence[Sequence[int]], pad_token_id: int, request_id: str = "") -> Embedded:
        """Embed one batch of token ids."""
        response = await self._infer(contracts.EMBEDDER, question_tensors(ids, pad_token_id), request_id)
        return Embedded(matrix(response, "embedding"), Before.of(integers(response, EMBED_NS)))

    async def search(self, ids: Sequence[int], request: SearchRequest, request_id: str = "") -> Searched:
        """Hits for a query whose embedder ids are ``ids``."""
        inputs = [
            *question_tensors([ids], 0),
            texts("messages", ["[]"]),  # no conversation: every hit, whole, and no prompt
            texts("search", [request.model_dump_json()]),
            numbers("max_tokens", [1], np.int32),
        ]
        response = await self._infer(contracts.SEARCH, inputs, request_id)
        result = SearchResult.model_validate_json(element(outputs(response)["hits"]))
        return Searched(result, Before.of(integers(response, EMBED_NS), integers(response, RETRIEVE_NS)))

    async def generate(
        self, model: str, prompt: Sequence[Tensor], generation_id: str, sampling: Sampling, request_id: str = ""
    ) -> AsyncGenerator[Piece, None]:
        """Run ``model`` (`generator` or `rag`) and yield its responses; the last one has a ``finish_reason``.

        ``generation_id`` is the handle for cancelling and has to be unique; ``request_id`` is what every process calls
        the request.

        Closing the generator early cancels the generation in the engine, in the ensemble too.

        Raises:
            ApiError: the ensemble's own refusal, or 503 when Triton fails or falls silent.
        """
        inputs = [*prompt, *sampling_tensors(generation_id, sampling)]
        stream = self._stream(model, inputs, request_id or generation_id)
        finished = False
        try:
            while not finished:
                piece = await stream.next()
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
        self._closed = True
        if self._abandoned:
            _, late = await asyncio.wait(self._abandoned, timeout=1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    async def _infer(self, model: str, inputs: Sequence[Tensor], request_id: str) -> Any:
        try:
            return await self._stub.ModelInfer(_request(model, inputs, request_id), timeout=self._limits.unary_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Unavailable(f"{model} did not answer within {self._limits.unary_s:g} s.", "timeout") from None
            raise refusal(error.details() or "", self._address) from error

    def _stream(self, model: str, inputs: Sequence[Tensor], request_id: str) -> Stream:
        request = _request(model, inputs, request_id)
        request.parameters["triton_enable_empty_final_response"].bool_param = True

        async def requests() -> AsyncGenerator[Any, None]:
            yield request

        call = self._stub.ModelStreamInfer(requests())
        return Stream(call, self._address, self._limits.first_s, self._limits.next_s)

    def _abandon(self, stream: Stream, generation_id: str) -> None:
        if self._closed:
            stream.close()
            return
        task = asyncio.create_task(self._cancel(stream, generation_id))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _cancel(self, stream: Stream, generation_id: str) -> None:
        """Cancel until the stream is over.

        A cancel that overtakes its own request (which is still retrieving) finds nothing to cancel, so it is sent
        again, more rarely, until the stream ends.
        """
        pause_s = _CANCEL_AGAIN_S
        try:
            with suppress(ApiError, TimeoutError):
                async with asyncio.timeout(self._limits.cancel_s):
                    while True:
                        await self._send_cancel(generation_id)
                        if await stream.ends_within(pause_s):
                            break
                        pause_s = min(2 * pause_s, _CANCEL_AGAIN_MOST_S)
        finally:
            stream.close()

    async def _send_cancel(self, generation_id: str) -> None:
        inputs = [
            prompt_tensor([0]),
            *sampling_tensors(generation_id, _NOTHING),
            numbers("cancel", [True], np.bool_),
        ]
        stream = self._stream(contracts.GENERATOR, inputs, f"cancel-{generation_id}")
        try:
            await stream.next()
        finally:
            stream.close()


def _request(model: str, inputs: Sequence[Tensor], request_id: str) -> Any:
    """A ``ModelInferRequest`` (Open Inference Protocol, gRPC) with raw contents."""
    request = ModelInferRequest(model_name=model, id=request_id)
    for name, datatype, shape, raw in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return request
