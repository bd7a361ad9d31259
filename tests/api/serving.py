"""An app on a real port, in the process of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import uvicorn

from slipstream.api.listener import BoundedHttp, address_of, bind

App = Callable[[Any, Any, Any], Awaitable[None]]


class _Server(uvicorn.Server):
    """Without handlers of signals: a fixture would leave its own to every test that follows, Ctrl-C among them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(app: App, lifespan: Literal["on", "off"]) -> AsyncIterator[str]:
    """The address of ``app`` under our protocol."""
    with bind("127.0.0.1", 0) as listener:
        server = _Server(uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan=lifespan, log_config=None))
        running = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            yield address_of(listener)
        finally:
            server.should_exit = True
            await running
