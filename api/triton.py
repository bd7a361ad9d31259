"""The gRPC client of the ensemble: one channel, streams that end, cancels that arrive.

Every call has a time limit, so a Triton that died or hangs is a 503 and never a hang; the channel reconnects by itself
within a second of Triton's return.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import structlog
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from slipstream.api.errors import ApiError, Unavailable, from_ensemble
from slipstream.ensemble import contracts
from slipstream.ensemble.contracts import SearchRequest, SearchResult

__all__ = ["InferInput", "Limits", "Piece", "Sampling", "TritonClient", "prompt_tensor", "rag_tensors"]

log = structlog.get_logger(__name__)

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

    ``first_s`` covers the queue and the prefill: 64 waiting answers of 1,024 tokens take about four minutes on the
    reference machine. ``next_s`` is the longest silence inside an answer. ``cancel_s`` bounds the clean-up after a
    client that left.
    """

    probe_s: float = 2.0
    unary_s: float = 30.0
    first_s: float = 300.0
    next_s: float = 60.0
    cancel_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the generator needs beside the prompt; see the table in `ensemble.contracts`."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: Sequence[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One response of the generator. ``hits`` is JSON and empty but in the first; the counts are final in the last."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    hits: bytes


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
        messages = [{"role": "user", "content": request.query}]
        inputs = [
            *question_tensors([ids], 0),
            _text("messages", json.dumps(messages)),
            _text("search", request.model_dump_json()),
            _numbers("max_tokens", [1], np.int32),
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
                piece = await self._next(stream, wait_s)
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
                stream.cancel()
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
            raise _refusal(error.message(), self._address) from error
        except TimeoutError:
            raise Unavailable(f"{model} did not answer within {self._limits.unary_s:g} s.", "timeout") from None

    def _stream(self, model: str, inputs: list[InferInput], generation_id: str) -> Any:
        async def requests() -> AsyncGenerator[dict[str, Any], None]:
            yield {
                "model_name": model,
                "inputs": inputs,
                "request_id": generation_id,
                "enable_empty_final_response": True,
            }

        return self._client.stream_infer(requests())

    async def _next(self, stream: Any, wait_s: float) -> Piece | None:
        """The next response with something in it; None when the stream is over."""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    result, error = await anext(stream)
                    if error is not None:
                        raise _refusal(error.message(), self._address)
                    response = result.get_response()
                    if response.raw_output_contents:
                        return _piece(response)
                    if response.parameters["triton_final_response"].bool_param:
                        return None
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise Unavailable(f"The engine was silent for {wait_s:g} s.", "timeout") from None
        except grpc.aio.AioRpcError as error:
            raise _refusal(error.details() or "", self._address) from error
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            # grpc.aio reports a call that the server's end tore down as a cancellation of its own.
            raise _refusal("the connection was lost", self._address) from None

    def _abandon(self, stream: Any, generation_id: str) -> None:
        task = asyncio.create_task(self._cancel(stream, generation_id))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _cancel(self, stream: Any, generation_id: str) -> None:
        """Cancel until the stream is over.

        A cancel that overtakes its own request (which is still retrieving) finds nothing to cancel, so it is sent
        again, ever more rarely, until the stream ends.
        """
        pause_s = _CANCEL_AGAIN_S
        reading = asyncio.ensure_future(self._next(stream, self._limits.cancel_s))
        with suppress(ApiError, TimeoutError, InferenceServerException, grpc.aio.AioRpcError):
            async with asyncio.timeout(self._limits.cancel_s):
                while True:
                    await self._send_cancel(generation_id)
                    await asyncio.wait((reading,), timeout=pause_s)
                    pause_s *= 2
                    if reading.done():
                        piece = reading.result()
                        if piece is None or piece.finish_reason:
                            break
                        reading = asyncio.ensure_future(self._next(stream, self._limits.cancel_s))
        reading.cancel()
        stream.cancel()

    async def _send_cancel(self, generation_id: str) -> None:
        nothing = Sampling(max_tokens=1, temperature=0.0, top_p=1.0, seed=None, stop=())
        inputs = [
            prompt_tensor([0]),
            *sampling_tensors(generation_id, nothing),
            _numbers("cancel", [True], np.bool_),
        ]
        stream = self._stream(contracts.GENERATOR, inputs, f"cancel-{generation_id}")
        await self._next(stream, self._limits.unary_s)
        stream.cancel()


def question_tensors(ids: Sequence[Sequence[int]], pad_token_id: int) -> list[InferInput]:
    """``input_ids`` and ``attention_mask``, INT64 [batch, longest]."""
    shape = (len(ids), max(len(row) for row in ids))
    padded = np.full(shape, pad_token_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return [_tensor("input_ids", padded, "INT64"), _tensor("attention_mask", mask, "INT64")]


def rag_tensors(ids: Sequence[int], messages: Sequence[Mapping[str, str]], search: SearchRequest) -> list[InferInput]:
    """What `rag` takes beside the sampling: the question's embedder ids, the conversation, and where to look."""
    return [
        *question_tensors([ids], 0),
        _text("messages", json.dumps(list(messages), ensure_ascii=False)),
        _text("search", search.model_dump_json()),
    ]


def prompt_tensor(ids: Sequence[int]) -> InferInput:
    """``prompt_ids``, INT32 [length]."""
    return _numbers("prompt_ids", ids, np.int32)


def sampling_tensors(generation_id: str, sampling: Sampling) -> list[InferInput]:
    """The generator's parameters; a seed is folded into INT64's positive half, because -1 means none."""
    seed = -1 if sampling.seed is None else sampling.seed & (2**63 - 1)
    stop = np.array([text.encode() for text in sampling.stop] or [b""], np.object_)
    return [
        _text("generation_id", generation_id),
        _numbers("max_tokens", [sampling.max_tokens], np.int32),
        _numbers("temperature", [sampling.temperature], np.float32),
        _numbers("top_p", [sampling.top_p], np.float32),
        _numbers("seed", [seed], np.int64),
        _tensor("stop", stop, "BYTES"),
    ]


_DATATYPES = {np.int32: "INT32", np.int64: "INT64", np.float32: "FP32", np.bool_: "BOOL"}


def _numbers(name: str, values: Sequence[Any], dtype: type[np.generic]) -> InferInput:
    return _tensor(name, np.array(values, dtype), _DATATYPES[dtype])


def _text(name: str, text: str) -> InferInput:
    return _tensor(name, np.array([text.encode()], np.object_), "BYTES")


def _tensor(name: str, values: NDArray[Any], datatype: str) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


def _piece(response: Any) -> Piece:
    """Read the raw tensors: `as_numpy` costs several times as much, and this runs for every token."""
    raw = {output.name: data for output, data in zip(response.outputs, response.raw_output_contents, strict=True)}
    counts = raw["token_counts"]
    # A BYTES element is its length (4 bytes, little-endian) and its bytes; these tensors hold one element.
    return Piece(
        text=raw["text"][4:].decode(),
        finish_reason=raw["finish_reason"][4:].decode(),
        prompt_tokens=int.from_bytes(counts[:4], "little"),
        completion_tokens=int.from_bytes(counts[4:8], "little"),
        hits=raw["hits"][4:],
    )


def _refusal(text: str, address: str) -> ApiError:
    fields = contracts.decode_error(text)
    if fields is not None:
        return from_ensemble(fields)
    log.warning("triton failed", address=address, reason=text[:500])
    return Unavailable("The inference server does not answer; it is restarted automatically.")
