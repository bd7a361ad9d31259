"""``GET /openapi.json``: what FastAPI knows of the routes, and the bodies and headers that we read ourselves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from slipstream.api.requests import ChatRequest, EmbeddingRequest, FeedbackRequest, SearchQuery
from slipstream.api.responses import Timing
from slipstream.api.timeline import ASKED, TIMING_HEADER

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/search": SearchQuery,
    "/v1/feedback": FeedbackRequest,
}
_TIMED = ("/v1/chat/completions", "/v1/embeddings", "/v1/search")
_SCHEMAS = "#/components/schemas/"


def document(app: FastAPI) -> None:
    """Let ``app`` describe its request bodies. They are parsed outside FastAPI, so it does not see them."""
    plain: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not plain:
            plain.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            schemas = plain.setdefault("components", {}).setdefault("schemas", {})
            for path, model in _BODIES.items():
                content = {"application/json": {"schema": _schema(model, schemas)}}
                plain["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
            for path in _TIMED:
                _add_timing(plain["paths"][path]["post"], _schema(Timing, schemas))
        return plain

    app.openapi = openapi  # type: ignore[method-assign]


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, str]:
    """A reference to ``model``, which is put into ``schemas``."""
    schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": _SCHEMAS + model.__name__}


def _add_timing(route: dict[str, Any], timing: dict[str, str]) -> None:
    asks = "Ask where the time goes. A streamed answer tells it in a chunk before `[DONE]`, in the field `timing`."
    schema = {"type": "string", "enum": [ASKED]}
    route.setdefault("parameters", []).append(
        {"name": TIMING_HEADER, "in": "header", "required": False, "description": asks, "schema": schema}
    )
    told = {
        "description": "Where the time went, if it was asked for.",
        "content": {"application/json": {"schema": timing}},
    }
    route["responses"]["200"].setdefault("headers", {})[TIMING_HEADER] = told
