"""A running generation: the task that reads its gRPC stream, and what it reads."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from slipstream.api.errors import ApiError, Unavailable, from_ensemble
from slipstream.ensemble import contracts

log = structlog.get_logger(__name__)

_END_S = 5.0
"""A call that does not end by itself after its answer is broken off."""
_ending: set[asyncio.Task[None]] = set()  # an event loop holds its tasks weakly


@dataclass(frozen=True, slots=True)
class Piece:
    """One response of the generator. ``hits`` is JSON and empty but in the first; the counts are final in the last."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    hits: bytes


class Stream:
    """A gRPC stream and the task that reads it.

    Cancelling a read of `grpc.aio` cancels the whole call, and Triton drops the responses of a cancelled call while an
    ensemble step runs on unseen; so reading belongs to a task of its own, which outlives the request it serves. For the
    same reason an answered call is read to its very end: Triton keeps what belongs to a call that was cancelled while
    it was closing, and then cannot unload the model.
    """

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address
        self._queue: asyncio.Queue[Piece | ApiError | None] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def next(self, wait_s: float) -> Piece | None:
        """The next response with something in it; None when the stream is over.

        Raises:
            ApiError: the ensemble refused, Triton failed, or nothing came for ``wait_s``.
        """
        try:
            async with asyncio.timeout(wait_s):
                item = await self._queue.get()
        except TimeoutError:
            raise Unavailable(f"The engine was silent for {wait_s:g} s.", "timeout") from None
        if isinstance(item, ApiError):
            raise item
        return item

    async def ends_within(self, wait_s: float) -> bool:
        """Wait for the answer's end, dropping what still comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._answered.wait()
        return self._answered.is_set()

    def close(self) -> None:
        """Let an answered call end by itself; break off any other."""
        if not self._answered.is_set():
            self._reader.cancel()
            self._call.cancel()
        elif not self._reader.done():
            _ending.add(self._reader)
            self._reader.add_done_callback(_ending.discard)
            asyncio.get_running_loop().call_later(_END_S, self._call.cancel)

    async def _read(self) -> None:
        try:
            async for result, error in self._call:
                if error is not None:
                    self._end(refusal(error.message(), self._address))
                    continue
                response = result.get_response()
                if response.raw_output_contents:
                    self._queue.put_nowait(_piece(response))
                if response.parameters["triton_final_response"].bool_param:
                    self._end(None)
        except grpc.aio.AioRpcError as error:
            self._end(refusal(error.details() or "", self._address))
        finally:
            self._end(None)

    def _end(self, item: ApiError | None) -> None:
        if not self._answered.is_set():
            self._queue.put_nowait(item)
            self._answered.set()


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


def refusal(text: str, address: str) -> ApiError:
    """A Triton error as ours; a foreign one goes to the log, because it may name paths of this machine."""
    fields = contracts.decode_error(text)
    if fields is not None:
        return from_ensemble(fields)
    log.warning("triton failed", address=address, reason=text[:500])
    return Unavailable("The inference server does not answer; it is restarted automatically.")
