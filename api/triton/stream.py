"""A running generation: the task that reads its gRPC stream, and what it reads."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from slipstream.api.errors import ApiError, Unavailable, from_ensemble
from slipstream.api.triton.tensors import element, outputs
from slipstream.ensemble import contracts
from slipstream.ensemble.stage_marks import MARKS_NS

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """One response of the generator. ``hits`` is JSON and empty but in the first; the counts are final in the last;
    ``marks`` is the raw tensor ``marks_ns``."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    hits: bytes
    marks: bytes


class Stream:
    """A gRPC stream and the task that reads it.

    Cancelling a read of `grpc.aio` cancels the whole call, and Triton drops the responses of a cancelled call while an
    ensemble step runs on unseen; so reading belongs to a task of its own, which outlives the request it serves.

    Args:
        call: the call, which has one reader.
        address: where Triton is, for the log.
        first_s: how long the first response may take.
        next_s: the longest silence after that. It is looked at once in as long, so that a token costs no timer of its
            own, and a silence is noticed after one to two times ``next_s``.
    """

    def __init__(self, call: Any, address: str, first_s: float, next_s: float) -> None:
        self._call = call
        self._address = address
        self._next_s = next_s
        self._items: deque[Piece | ApiError | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._heard = False
        self._loop = asyncio.get_running_loop()
        self._silence = self._loop.call_later(first_s, self._check_silence, first_s)
        self._reader = asyncio.create_task(self._read())

    async def next(self) -> Piece | None:
        """The next response with something in it; None when the stream is over.

        Raises:
            ApiError: the ensemble refused, Triton failed, or it fell silent (code ``timeout``).
        """
        while not self._items:
            self._waiter = self._loop.create_future()
            await self._waiter
        item = self._items.popleft()
        if isinstance(item, ApiError):
            raise item
        return item

    async def ends_within(self, wait_s: float) -> bool:
        """Wait for the end, dropping what still comes."""
        await asyncio.wait((self._reader,), timeout=wait_s)
        return self._reader.done()

    def close(self) -> None:
        self._silence.cancel()
        self._reader.cancel()
        self._call.cancel()

    def _put(self, item: Piece | ApiError | None) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_silence(self, waited_s: float) -> None:
        if not self._heard:
            self._put(Unavailable(f"The engine was silent for {waited_s:g} s.", "timeout"))
            return
        self._heard = False
        self._silence = self._loop.call_later(self._next_s, self._check_silence, self._next_s)

    async def _read(self) -> None:
        try:
            async for message in self._call:
                self._heard = True
                if message.error_message:
                    self._put(refusal(message.error_message, self._address))
                    break
                response = message.infer_response
                if response.raw_output_contents:
                    self._put(_piece(response))
                if response.parameters["triton_final_response"].bool_param:
                    break
        except grpc.aio.AioRpcError as error:
            self._put(refusal(error.details() or "", self._address))
        finally:
            self._silence.cancel()
            self._put(None)


def _piece(response: Any) -> Piece:
    """Read the raw tensors: this runs for every token."""
    raw = outputs(response)
    counts = raw["token_counts"]
    return Piece(
        text=element(raw["text"]).decode(),
        finish_reason=element(raw["finish_reason"]).decode(),
        prompt_tokens=int.from_bytes(counts[:4], "little"),
        completion_tokens=int.from_bytes(counts[4:8], "little"),
        hits=element(raw["hits"]),
        marks=raw.get(MARKS_NS, b""),
    )


def refusal(text: str, address: str) -> ApiError:
    """A Triton error as ours; a foreign one goes to the log, because it may name paths of this machine."""
    fields = contracts.decode_error(text)
    if fields is not None:
        return from_ensemble(fields)
    log.warning("triton failed", address=address, reason=text[:500])
    return Unavailable("The inference server does not answer; it is restarted automatically.")
