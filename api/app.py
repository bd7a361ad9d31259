"""The application: routes, errors, and the boundary around them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from slipstream import SlipstreamError, __version__
from slipstream.api import errors
from slipstream.api.boundary import Boundary
from slipstream.api.metrics import Metrics
from slipstream.api.openapi import document
from slipstream.api.routes import chat, embeddings, feedback, health, models, search
from slipstream.api.state import Facade
from slipstream.api.triton import TritonClient
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.tokenizer import ChatTokenizer, EmbedderTokenizer
from slipstream.settings import Settings


def create_app(
    bundle: Bundle,
    settings: Settings,
    triton: TritonClient,
    phase: Callable[[], str] = lambda: "ready",
    triton_metrics: str = "",
) -> FastAPI:
    """The facade for ``bundle``, whose ensemble ``triton`` reaches.

    Args:
        phase: how the Triton process is doing, in the supervisor's words; only ``ready`` makes it worth asking.
        triton_metrics: where that process tells its metrics, for who reads ours.
    """
    metrics = Metrics(bundle.manifest, triton_metrics)
    facade = Facade(
        bundle=bundle,
        settings=settings,
        triton=triton,
        chat_tokenizer=ChatTokenizer(bundle.tokenizer_dir),
        embedder_tokenizer=EmbedderTokenizer(bundle.embedder_dir),
        metrics=metrics,
        phase=phase,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await triton.close()

    # FastAPI's documentation pages load their scripts from a CDN; nothing of this appliance leaves the machine.
    app = FastAPI(title="Slipstream", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.facade = facade
    app.add_exception_handler(SlipstreamError, errors.handle)
    app.add_exception_handler(HTTPException, errors.handle)
    app.add_middleware(Boundary, metrics=metrics, host=settings.host, closing=facade.closing)
    for room in (chat, embeddings, search, models, feedback, health):
        app.include_router(room.router)
    document(app)
    return app
