"""``GET /v1/models`` and ``GET /v1/metadata``: what is being served."""

import asyncio
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from slipstream import SlipstreamError, __version__
from slipstream.api.errors import ApiError
from slipstream.api.responses import ModelCard, ModelList
from slipstream.api.state import MODELS, facade_of
from slipstream.settings import Settings

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """The models by the names that requests use."""
    created = facade_of(request).started_at
    return ModelList(data=[ModelCard(id=name, created=created) for name in MODELS])


@router.get("/v1/models/{model}")
async def model(request: Request, model: str) -> ModelCard:
    """One of them."""
    if model not in MODELS:
        raise ApiError(404, f"There is no model {model[:64]!r}.", code="model_not_found", param="model")
    return ModelCard(id=model, created=facade_of(request).started_at)


@router.get("/v1/metadata")
async def metadata(request: Request) -> Response:
    """Identity of the bundle and of every collection: enough to tell two answers' origins apart."""
    facade = facade_of(request)
    manifest = facade.bundle.manifest
    content = {
        "version": __version__,
        "default_collection": facade.settings.collection,
        "bundle": manifest.model_dump(mode="json", exclude={"recipe", "files", "schema_version"}),
        **await asyncio.to_thread(_collections, facade.settings),
    }
    return Response(orjson.dumps(content), media_type="application/json")


def _collections(settings: Settings) -> dict[str, Any]:
    """The published collections, or why they cannot be listed: the bundle's identity is worth having without them."""
    from slipstream.ensemble.retrieval.stores import open_store

    try:
        return {"collections": [asdict(info) for info in open_store(settings).collections()]}
    except SlipstreamError as error:
        return {"collections": None, "collections_error": error.message}
