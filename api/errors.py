"""Every error of the HTTP surface in OpenAI's shape: ``{"error": {"message", "type", "code", "param"}}``.

====== ======================= ==========================================================================
status ``type``                when
====== ======================= ==========================================================================
400    invalid_request_error   a field is missing, of the wrong type, out of range or not supported
403    invalid_request_error   a web page of another site asks a server that is bound to this machine
404    invalid_request_error   no such route, model or collection
405    invalid_request_error   the route exists, the method does not
408    invalid_request_error   the body did not arrive in time
409    invalid_request_error   the collection was indexed with another embedder
413    invalid_request_error   the body is larger than the limit
421    invalid_request_error   the ``Host`` header names another server
429    rate_limit_error        every slot and every place in the queue is taken; carries ``Retry-After``
500    server_error            a defect of ours; the log has the traceback, the answer does not
503    server_error            Triton, the engine or the index does not answer; carries ``Retry-After``
====== ======================= ==========================================================================
"""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from slipstream import InputError, SlipstreamError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

log = structlog.get_logger(__name__)

MAX_PARAM_CHARACTERS = 128
"""An unknown field is named in the answer, and its name may be as long as a body."""

RETRY_AFTER_S = {429: 1, 503: 2}
"""One answer takes about a second on the reference machine; a restarted Triton takes longer than that to load."""

_STATUS = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "collection_not_found": 404,
    "revision_not_found": 404,
    "embedder_mismatch": 409,
    "collection_outdated": 409,
    "index_unavailable": 503,
    "overloaded": 429,
    "engine_error": 503,
}


class ApiError(SlipstreamError):
    """A refusal with its HTTP status.

    Args:
        status: HTTP status code.
        message: what is wrong, in the caller's terms.
        code: OpenAI's machine-readable reason, such as ``model_not_found``.
        param: the field of the request that is at fault, such as ``messages[0].content``.
    """

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class Unavailable(ApiError):
    """Triton or one of its models does not answer (503)."""

    def __init__(self, message: str, code: str = "unavailable") -> None:
        super().__init__(503, message, code=code)


class ShuttingDown(Unavailable):
    """The time for running answers is over, and the server ends."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", "shutting_down")


def from_ensemble(fields: dict[str, Any]) -> ApiError:
    """The refusal that `ensemble.contracts.decode_error` found in a Triton error."""
    code = str(fields.get("code"))
    status = _STATUS.get(code, 503)
    return ApiError(status, str(fields.get("message") or code), code=code, param=fields.get("param"))


def as_api_error(error: Exception) -> ApiError:
    """Any exception as a refusal; one that nobody foresaw becomes a 500 whose text says nothing of the inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, SlipstreamError):
        message = f"{error.message} (try: {error.remedy})" if error.remedy else error.message
        if isinstance(error, InputError):
            return ApiError(400, message, code="invalid_request")
        return Unavailable(message)
    log.error("unforeseen error", exc_info=error)
    return ApiError(500, "The server made an error; its log has the details.", code="internal_error")


def _from_http(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(404, "There is no such route; GET /openapi.json lists them.", code="unknown_url")
    if error.status_code == 405:
        return ApiError(405, "This route does not take that method.", code="method_not_allowed")
    return ApiError(error.status_code, str(error.detail), code=HTTPStatus(error.status_code).name.lower())


def from_validation(error: ValidationError) -> ApiError:
    """The most telling problem of a request that does not fit its schema, naming the field."""
    problem = max(error.errors(include_url=False, include_input=False), key=_tells)
    if problem["type"] == "json_invalid":
        reason = str(problem.get("ctx", {}).get("error", ""))
        return ApiError(400, f"The body is not valid JSON: {reason}", code="invalid_json")
    param = _path(problem)[:MAX_PARAM_CHARACTERS]
    message = problem["msg"].removeprefix("Value error, ")
    kinds = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
    code = kinds.get(problem["type"], problem["type"] if problem["type"].startswith("unsupported") else "invalid_value")
    if problem["type"] == "extra_forbidden":
        message = "This server knows no such parameter"
    return ApiError(400, f"{param}: {message}" if param else message, code=code, param=param or None)


def _tells(problem: "ErrorDetails") -> tuple[int, int]:
    """How much a problem tells.

    Of a union (`content` is a text or a list of parts) every branch reports; the deepest one got furthest, then the one
    of the right type. A wrong value (`type` of an image) explains what is unknown and what is missing beside it.
    """
    kind = problem["type"]
    rank = {"missing": 0, "extra_forbidden": 1}.get(kind, 2 if kind.endswith("_type") else 3)
    return len(_fields(problem)), rank


def _fields(problem: "ErrorDetails") -> list[int | str]:
    """Where the problem is, pydantic's names of union branches left out; an unknown field has the name that it has."""
    loc = problem["loc"]
    given = len(loc) - 1 if problem["type"] == "extra_forbidden" else len(loc)
    return [part for index, part in enumerate(loc) if index == given or not _is_branch(part)]


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and ("[" in part or part == "str")


def _path(problem: "ErrorDetails") -> str:
    """``("messages", 0, "content", "str")`` as ``messages[0].content``."""
    text = ""
    for part in _fields(problem):
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part or '""'
    return text


def payload(error: ApiError) -> bytes:
    """The JSON body of ``error``."""
    kind = (
        "rate_limit_error"
        if error.status == 429
        else "server_error"
        if error.status >= 500
        else "invalid_request_error"
    )
    fields = {"message": error.message, "type": kind, "code": error.code, "param": error.param}
    return orjson.dumps({"error": fields})


def response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """``error`` as an HTTP response."""
    headers = dict(headers or {})
    if error.status in RETRY_AFTER_S:
        headers["Retry-After"] = str(RETRY_AFTER_S[error.status])
    return Response(payload(error), error.status, headers, media_type="application/json")


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for everything we raise on purpose."""
    refusal = as_api_error(error)
    record = getattr(request.state, "record", None)
    if record is not None:
        record.code = refusal.code
    allow = dict(error.headers or {}) if isinstance(error, HTTPException) else None
    return response(refusal, allow)
