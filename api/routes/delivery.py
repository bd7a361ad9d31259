"""Reading a request's body and delivering its answer for as long as the client is there."""

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from slipstream.api.errors import ApiError, ShuttingDown, from_validation

MAX_TOKENS = 10_000
"""JSON tokens of a body. Embedding 2048 texts takes 4,100, a conversation of 256 turns with OpenAI's fields 3,600."""
# Strings whole, so that the signs in a text do not count. The closing quote is optional and nothing is tried twice:
# a string that never ends is passed over once.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


class Disconnected(Exception):
    """The client left; there is nobody to answer. The boundary ends the request here."""


async def read_body(request: Request, model: type[_Model]) -> _Model:
    """The body as ``model``, parsed and checked by pydantic in one pass, whatever its content type says.

    Neither parsing nor checking lets the event loop go on meanwhile, so what would take long is refused before.

    Raises:
        ApiError: 400 naming the field, or for a body of too many values; 413 and 408 from the boundary.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Disconnected from None
    if len(body) > MAX_TOKENS and next(islice(_TOKEN.finditer(body), MAX_TOKENS, None), None):
        message = f"The body holds too many values: more than {MAX_TOKENS} strings, lists, objects and commas."
        raise ApiError(400, message, code="too_many_values")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _Result], closing: asyncio.Event) -> _Result:
    """Run ``work`` and cancel it the moment the client closes its connection, or the server may wait no longer.

    Raises:
        Disconnected: the client left first; ``work`` has been cancelled and has ended.
        ShuttingDown: ``closing`` was set first; the same.
    """
    task = asyncio.ensure_future(work)
    leaves = asyncio.ensure_future(_until_disconnect(receive))
    closes = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((task, leaves, closes), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Disconnected if leaves.done() else ShuttingDown
    finally:
        for pending in (task, leaves, closes):
            pending.cancel()
        for pending in (task, leaves, closes):
            with suppress(asyncio.CancelledError, Exception):
                await pending


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
