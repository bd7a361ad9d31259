"""The serving process: the facade from the first moment, Triton beside it, and an orderly end.

The facade listens before Triton has loaded, so that ``/health/ready`` says what is being waited for. The first SIGINT
or SIGTERM stops accepting, lets running answers finish for `DRAIN_S`, and stops every child; the second ends at once.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import structlog
import uvicorn

from slipstream import EnvironmentFault
from slipstream.api.app import create_app
from slipstream.api.listener import BoundedHttp
from slipstream.api.startup import startup_line
from slipstream.api.triton import TritonClient
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.triton.supervisor import Supervisor
from slipstream.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_S = 3
"""What runs then ends with an error. Triton may take 5 s more to end, and the whole is to be over in 10."""
_TELL_S = 1
"""How long the end of what was running may take to send; after that, uvicorn cancels."""
_POLL_S = 0.05


class TritonFailed(EnvironmentFault):
    """Triton did not become ready, or cannot be kept running."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours stop Triton too."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Appliance:
    """Facade and Triton of one bundle, as one thing that starts and stops.

    Args:
        listener: a bound socket (see `listener.bind`).
        on_ready: called once, in a thread of its own, when the first question can be answered, with the seconds that
            it took.
        seal: what `slipstream.ensemble.signing.trust.admit` said of the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        listener: socket.socket,
        on_ready: Callable[[float], None],
        seal: str = "",
    ) -> None:
        self._listener = listener
        self._on_ready = on_ready
        self._supervisor = Supervisor(bundle, settings, seal)
        self._triton = TritonClient(self._supervisor.grpc_address)
        supervisor = self._supervisor
        app = create_app(bundle, settings, self._triton, lambda: supervisor.state, supervisor.metrics_url)
        self._closing: asyncio.Event = app.state.facade.closing
        config = uvicorn.Config(
            app,
            http=BoundedHttp,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_S + _TELL_S,
        )
        self._server = _Server(config)
        self._stop = asyncio.Event()

    def run(self) -> None:
        """Serve until a signal.

        Raises:
            TritonFailed: with what is known of the reason.
        """
        factory = self._server.config.get_loop_factory()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        started = monotonic()
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        try:
            await asyncio.to_thread(self._supervisor.start)
            if await self._became_ready():
                self._telling = asyncio.create_task(asyncio.to_thread(self._on_ready, monotonic() - started))
                self._telling.add_done_callback(_report)
                await self._until_stopped(serving)
        finally:
            self._server.should_exit = True
            drain = loop.call_later(DRAIN_S, self._closing.set)
            with suppress(asyncio.CancelledError):
                await serving
            drain.cancel()
            await asyncio.to_thread(self._supervisor.stop)

    async def _became_ready(self) -> bool:
        """False when a signal came first."""
        with startup_line() as refresh:
            while not self._stop.is_set():
                self._raise_if_failed()
                # Our channel may still be waiting out a failure when Triton has just become ready.
                if self._supervisor.state == "ready" and await self._triton.missing() is None:
                    return True
                refresh()
                await asyncio.sleep(_POLL_S)
        return False

    async def _until_stopped(self, serving: asyncio.Task[None]) -> None:
        while not self._stop.is_set() and not serving.done():
            self._raise_if_failed()
            await asyncio.sleep(_POLL_S)

    def _raise_if_failed(self) -> None:
        if self._supervisor.state == "failed":
            reason = self._supervisor.failure or "Triton ended and could not be restarted"
            raise TritonFailed(reason, f"read {self._supervisor.log_path}")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for pid in self._supervisor.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os._exit(1)
        log.info("stopping", drain_s=DRAIN_S)
        self._stop.set()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("the first question was not answered", reason=str(task.exception()))
