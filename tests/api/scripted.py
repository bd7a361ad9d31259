"""A gRPC server that speaks Triton's protocol and answers as a test wrote it down.

The real Triton is in `tests/integration`; here stand the moments that it cannot be made to show on purpose: an error
after the third token, silence, a connection that drops, a cancel that overtakes its request.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

HITS = {
    "hits": [
        {
            "path": f"retry/{name}.py",
            "line_start": 10,
            "line_end": 20,
            "symbol": name,
            "repo": "shop",
            "language": "python",
            "score": score,
            "text": "pass",
        }
        for name, score in (("budget", 0.9), ("loop", 0.5))
    ],
    "collection": "code",
    "index_version": "7",
    "confidence": 0.9,
}


@dataclass
class Say:
    """One response of the generator."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 11
    completion_tokens: int = 0
    hits: str = ""
    marks: tuple[int, ...] = ()


@dataclass
class Fail:
    """An error in the stream, as Triton words it."""

    message: str


class Hang:
    """Nothing more, until the generation is cancelled; then the last response."""


class Retrieve:
    """Nothing yet, until a first cancel has come and gone."""


class Drop:
    """The connection breaks."""


Step = Say | Fail | Hang | Retrieve | Drop


@dataclass
class Script:
    steps: list[Step] = field(default_factory=list)
    embedding_dimension: int = 4
    embed_ns: tuple[int, ...] | None = None
    """None for an embedder on a backend that does not tell."""
    retrieve_ns: tuple[int, ...] = (0, 0, 0, 0)


class ScriptedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Requests that arrived are in ``requests``; ids that were cancelled in ``cancelled``, in order."""

    def __init__(self) -> None:
        self.script = Script()
        self.requests: list[Any] = []
        self.cancelled: list[str] = []
        self.ignored_cancels = 0
        """How many cancels come too early to have an effect."""
        self._asked = asyncio.Condition()
        self._first_cancel = asyncio.Event()
        self._cancels: dict[str, asyncio.Event] = {}
        self._server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def says(self, *steps: Step) -> None:
        self.script.steps = list(steps)

    async def has_requests(self, count: int) -> None:
        """Wait until ``count`` generations were asked for."""
        async with self._asked:
            await asyncio.wait_for(self._asked.wait_for(lambda: len(self.requests) >= count), 20)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        for step in self.script.steps:
            if isinstance(step, Fail):
                await context.abort(grpc.StatusCode.INTERNAL, step.message)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        if request.model_name == "search":
            _add(response, "hits", "BYTES", [1], _bytes(json.dumps(HITS)))
            _add_times(response, "retrieve_ns", self.script.retrieve_ns)
        else:
            rows = request.inputs[0].shape[0]
            # Each vector is the first token ids of its text, so that a test sees which row is whose.
            ids = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(rows, -1)
            vectors = np.zeros((rows, self.script.embedding_dimension), np.float32)
            width = min(ids.shape[1], vectors.shape[1])
            vectors[:, :width] = ids[:, :width]
            _add(response, "embedding", "FP32", list(vectors.shape), vectors.tobytes())
        if self.script.embed_ns is not None:
            _add_times(response, "embed_ns", self.script.embed_ns)
        return response

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for request in requests:
            inputs = tensors(request)
            generation_id = inputs["generation_id"][4:].decode()
            if "cancel" in inputs:
                self._cancel(generation_id)
                yield _response(Say(finish_reason="cancelled"), final=True)
                continue
            async with self._asked:
                self.requests.append(request)
                self._asked.notify_all()
            event = self._cancels.setdefault(generation_id, asyncio.Event())
            async for response in self._play(context, event):
                yield response

    async def _play(self, context: Any, cancelled: asyncio.Event) -> AsyncIterator[Any]:
        for step in self.script.steps:
            if cancelled.is_set():
                yield _response(Say(finish_reason="cancelled"), final=True)
                return
            if isinstance(step, Say):
                yield _response(step, final=bool(step.finish_reason))
                await asyncio.sleep(0)
            elif isinstance(step, Fail):
                yield service_pb2.ModelStreamInferResponse(error_message=step.message)
                return
            elif isinstance(step, Drop):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            elif isinstance(step, Retrieve):
                await self._first_cancel.wait()
            else:
                await cancelled.wait()

    def _cancel(self, generation_id: str) -> None:
        self.cancelled.append(generation_id)
        self._first_cancel.set()
        if len(self.cancelled) > self.ignored_cancels:
            self._cancels.setdefault(generation_id, asyncio.Event()).set()


def tensors(request: Any) -> dict[str, bytes]:
    """Raw content of every input by name."""
    return {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}


def _response(say: Say, *, final: bool) -> Any:
    response = service_pb2.ModelInferResponse(model_name="generator")
    response.parameters["triton_final_response"].bool_param = final
    counts = np.array([say.prompt_tokens, say.completion_tokens], np.int32).tobytes()
    _add(response, "text", "BYTES", [1], _bytes(say.text))
    _add(response, "finish_reason", "BYTES", [1], _bytes(say.finish_reason))
    _add(response, "token_counts", "INT32", [2], counts)
    _add(response, "hits", "BYTES", [1], _bytes(say.hits))
    _add_times(response, "marks_ns", say.marks)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def _add(response: Any, name: str, datatype: str, shape: list[int], raw: bytes) -> None:
    response.outputs.add(name=name, datatype=datatype, shape=shape)
    response.raw_output_contents.append(raw)


def _add_times(response: Any, name: str, values: tuple[int, ...]) -> None:
    _add(response, name, "INT64", [len(values)], np.array(values, np.int64).tobytes())


def _bytes(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data
