"""``GET /openapi.json``: what FastAPI knows of the routes, and the bodies that our routes read themselves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from slipstream.api.requests import ChatRequest, EmbeddingRequest, FeedbackRequest, SearchQuery

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/search": SearchQuery,
    "/v1/feedback": FeedbackRequest,
}
_SCHEMAS = "#/components/schemas/"


def document(app: FastAPI) -> None:
    """Let ``app`` describe its request bodies. They are parsed outside FastAPI, so it does not see them."""
    plain: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not plain:
            plain.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            schemas = plain.setdefault("components", {}).setdefault("schemas", {})
            for path, model in _BODIES.items():
                schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
                content = {"application/json": {"schema": {"$ref": _SCHEMAS + model.__name__}}}
                plain["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        return plain

    app.openapi = openapi  # type: ignore[method-assign]
