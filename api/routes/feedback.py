"""``POST /v1/feedback``: a rating of an answer, kept on this machine."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import orjson
import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from slipstream import EnvironmentFault
from slipstream.api.requests import FeedbackRequest
from slipstream.api.routes.delivery import read_body
from slipstream.api.state import facade_of

log = structlog.get_logger(__name__)

router = APIRouter()


class FeedbackNotKept(EnvironmentFault):
    """The rating could not be written to disk."""


@router.post("/v1/feedback", status_code=201)
async def feedback(request: Request) -> Response:
    """Append a rating to ``<home>/feedback/<month>.jsonl``; it is on disk before this answers."""
    facade = facade_of(request)
    body = await read_body(request, FeedbackRequest)
    now = datetime.now(UTC)
    entry = {
        "id": f"feedback-{uuid4().hex}",
        "at": now.isoformat(timespec="seconds"),
        "fingerprint": facade.fingerprint,
        **body.model_dump(exclude_none=True),
    }
    await asyncio.to_thread(_append, facade.settings.root / "feedback" / f"{now:%Y-%m}.jsonl", entry)
    facade.metrics.feedback.labels(body.rating).inc()
    return Response(orjson.dumps({"id": entry["id"], "object": "feedback"}), 201, media_type="application/json")


def _append(path: Path, entry: dict[str, str]) -> None:
    """One line in one write: `O_APPEND` keeps lines of concurrent requests whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, orjson.dumps(entry) + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        log.error("feedback.not_kept", path=str(path), reason=error.strerror)  # paths of this machine stay here
        raise FeedbackNotKept("The rating could not be kept", "free some disk space on the server") from error
