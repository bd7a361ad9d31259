"""``GET /health/live``, ``GET /health/ready`` and ``GET /metrics``: for whoever operates the server."""

import asyncio

import orjson
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from slipstream.api.errors import RETRY_AFTER_S
from slipstream.api.state import facade_of

router = APIRouter()


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Response:
    """200 as long as this process answers."""
    return Response(orjson.dumps({"status": "live"}), media_type="application/json")


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """200 when every model of the ensemble is loaded and warm; 503 with the reason until then."""
    facade = facade_of(request)
    phase = facade.phase()
    reason = await facade.triton.missing() if phase == "ready" else f"Triton is {phase}"
    content = {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
    headers = {"Retry-After": str(RETRY_AFTER_S[503])} if reason else None
    return Response(orjson.dumps(content), 503 if reason else 200, headers, media_type="application/json")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    text = await asyncio.to_thread(facade_of(request).metrics.render)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
