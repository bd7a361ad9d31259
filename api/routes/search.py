"""``POST /v1/search``: the retrieval of an answer, without the answer."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipstream.api.errors import ApiError
from slipstream.api.requests import SearchQuery
from slipstream.api.responses import SearchResponse
from slipstream.api.routes.conversation import off_loop
from slipstream.api.routes.delivery import read_body, while_connected
from slipstream.api.state import facade_of, record_of
from slipstream.ensemble.contracts import SearchRequest

router = APIRouter()

MAX_QUERY_CHARACTERS = 16_384


@router.post("/v1/search", response_model=SearchResponse)
async def search(request: Request) -> Response:
    """Hybrid search over one collection, best first."""
    facade, record = facade_of(request), record_of(request)
    timeline = record.timeline
    with timeline.ran("queue"):
        body = await read_body(request, SearchQuery)
    _check_query(body.query)
    wanted = SearchRequest(
        **body.model_dump(exclude={"collection"}), collection=body.collection or facade.settings.collection
    )
    with timeline.ran("embed"):
        ids = await off_loop(facade.embedder_tokenizer.encode_questions, [body.query], len(body.query))
    search = facade.triton.search(ids[0], wanted, record.request_id)
    found = await while_connected(request.receive, search, facade.closing)
    timeline.tell(found.marks)
    return Response(found.result.model_dump_json(), media_type="application/json")


def _check_query(query: str) -> None:
    if not query.strip():
        raise ApiError(400, "query: the query is empty.", code="invalid_value", param="query")
    if len(query) > MAX_QUERY_CHARACTERS:
        message = f"query: {len(query)} characters; the limit is {MAX_QUERY_CHARACTERS}."
        raise ApiError(400, message, code="invalid_value", param="query")
