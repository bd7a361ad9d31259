"""The edges: routes, methods, hosts, sizes, request ids, and a backend that is not there."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import structlog

from slipstream.api.app import create_app
from slipstream.api.boundary import MAX_BODY_BYTES, is_loopback
from slipstream.api.errors import RETRY_AFTER_S
from slipstream.api.triton import TritonClient
from slipstream.ensemble.bundle import Bundle
from slipstream.settings import Settings
from tests.api.test_validation import CHAT, assert_refused


async def test_an_unknown_route_is_a_404_in_the_same_shape(client: httpx.AsyncClient) -> None:
    assert_refused(await client.get("/v1/nothing"), 404, None, "unknown_url")
    assert_refused(await client.get("/docs"), 404, None)


async def test_a_wrong_method_is_a_405_that_says_which_is_right(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/chat/completions")
    assert_refused(response, 405, None, "method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_a_body_over_the_limit_is_refused_by_its_header_alone(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-length": str(MAX_BODY_BYTES + 1)}
    response = await client.post("/v1/chat/completions", headers=headers, content=body())
    message = assert_refused(response, 413, None, "request_too_large")
    assert str(MAX_BODY_BYTES) in message


async def test_a_chunked_body_is_refused_when_it_passes_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 2 * MAX_BODY_BYTES:
            sent += 65536
            yield b" " * 65536

    assert_refused(await client.post("/v1/chat/completions", content=body()), 413, None, "request_too_large")
    assert sent <= MAX_BODY_BYTES + 2 * 65536


@pytest.mark.parametrize("length", ["-1", "x", "9" * 400])
async def test_a_content_length_that_is_none_is_refused(client: httpx.AsyncClient, length: str) -> None:
    response = await client.post("/v1/chat/completions", headers={"content-length": length}, content=b"{}")
    assert_refused(response, 413, None)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::2]:80"])
async def test_a_foreign_host_name_is_refused_on_loopback(client: httpx.AsyncClient, host: str) -> None:
    assert_refused(await client.get("/health/live", headers={"host": host}), 421, None)


async def test_two_host_headers_are_refused_on_any_address(bundle: Bundle, settings: Settings) -> None:
    for address in ("127.0.0.1", "0.0.0.0"):  # noqa: S104
        app = create_app(bundle, settings.model_copy(update={"host": address}), TritonClient("127.0.0.1:1"))
        headers = [("host", "localhost"), ("host", "evil.example")]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert_refused(await client.get("/health/live", headers=headers), 400, None, "invalid_header")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"])
async def test_loopback_names_are_accepted(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/health/live", headers={"host": host})).status_code == 200


async def test_a_server_bound_to_the_network_takes_any_host_name(bundle: Bundle, settings: Settings) -> None:
    app = create_app(bundle, settings.model_copy(update={"host": "0.0.0.0"}), TritonClient("127.0.0.1:1"))  # noqa: S104
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://code.example") as client:
        assert (await client.get("/health/live")).status_code == 200
    assert not is_loopback("0.0.0.0")  # noqa: S104


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "", "http://[x"])
async def test_a_page_of_another_site_is_refused_on_loopback(client: httpx.AsyncClient, origin: str) -> None:
    response = await client.post("/v1/chat/completions", headers={"origin": origin}, json=CHAT)
    assert_refused(response, 403, None, "foreign_origin")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]"])
async def test_a_page_of_this_machine_may_ask(client: httpx.AsyncClient, origin: str) -> None:
    assert (await client.get("/v1/models", headers={"origin": origin})).status_code == 200


async def test_a_body_that_trickles_in_is_given_up(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.api.boundary.BODY_TIMEOUT_S", 0.3)

    async def body() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.1)  # each piece in time, the whole never
            yield b" "

    assert_refused(await client.post("/v1/chat/completions", content=body()), 408, None, "timeout")


async def test_the_request_id_is_echoed_or_made(client: httpx.AsyncClient) -> None:
    given = await client.get("/health/live", headers={"x-request-id": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    made = await client.get("/health/live")
    assert len(made.headers["x-request-id"]) == 32
    refused = await client.get("/nothing", headers={"x-request-id": "a b"})
    assert refused.headers["x-request-id"] != "a b"


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"stream": True}),
        ("/v1/chat/completions", CHAT | {"model": "slipstream-base"}),
        ("/v1/embeddings", {"model": "slipstream-embed", "input": "x"}),
        ("/v1/search", {"query": "x"}),
    ],
)
async def test_a_dead_triton_is_a_503_that_says_when_to_come_back(
    client: httpx.AsyncClient, route: str, body: dict[str, object]
) -> None:
    response = await client.post(route, json=body)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert response.json()["error"]["type"] == "server_error"


async def test_health_tells_alive_from_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}
    ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.headers["retry-after"] == str(RETRY_AFTER_S[503])
    assert "does not answer" in ready.json()["reason"]
    assert (await client.head("/health/live")).status_code == 200
    assert (await client.head("/health/ready")).status_code == 503


async def test_a_defect_is_a_500_without_its_inside(
    bundle: Bundle, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = TritonClient("127.0.0.1:1")
    app = create_app(bundle, settings, triton)
    monkeypatch.setattr(triton, "search", None)
    with structlog.testing.capture_logs() as logs:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            response = await client.post("/v1/search", json={"query": "x"})
    assert response.status_code == 500
    error = response.json()["error"]
    assert error["code"] == "internal_error"
    assert "NoneType" not in response.text
    assert [entry for entry in logs if entry["event"] == "unforeseen error"]


async def test_the_access_log_has_numbers_and_no_text_of_the_user(client: httpx.AsyncClient) -> None:
    secret = "zanzibar-4711"
    with structlog.testing.capture_logs() as logs:
        await client.post("/v1/chat/completions", json=CHAT | {"messages": [{"role": "user", "content": secret}]})
        await client.post("/v1/chat/completions", json=CHAT | {secret: 1})
        await client.post("/v1/search?q=" + secret, json={"query": secret})
    requests = [entry for entry in logs if entry["event"] == "request"]
    assert [entry["status"] for entry in requests] == [503, 400, 503]
    assert {"request_id", "route", "duration_s"} <= set(requests[0])
    assert secret not in json.dumps(logs, default=str)


async def test_the_api_describes_itself_down_to_the_bodies(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    schemas = described["components"]["schemas"]
    body = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    chat = schemas[body["$ref"].rpartition("/")[2]]
    assert {"model", "messages", "stream", "collection", "max_completion_tokens"} <= set(chat["properties"])
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert referred <= set(schemas)


async def test_models_are_listed_and_found(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["slipstream", "slipstream-base", "slipstream-embed"]
    assert (await client.get("/v1/models/slipstream")).json() == listed["data"][0]
    assert_refused(await client.get("/v1/models/gpt-4o"), 404, "model", "model_not_found")


async def test_metadata_identifies_bundle_and_collections(client: httpx.AsyncClient, bundle: Bundle) -> None:
    body = (await client.get("/v1/metadata")).json()
    assert body["bundle"]["id"] == bundle.manifest.id
    assert body["bundle"]["release_name"] == bundle.manifest.release_name
    assert body["bundle"]["embedder"]["digest"] == "d"
    assert body["collections"] == []


async def test_metrics_count_by_route_and_status(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/chat/completions", json=CHAT | {"model": "made-up-model"})
    await client.get("/made/up/path")
    text = (await client.get("/metrics")).text
    labels = 'model="slipstream",route="/v1/chat/completions",status="503"'
    assert f"slipstream_requests_total{{{labels}}} 1.0" in text
    assert "slipstream_requests_in_flight 0.0" in text  # asking for the metrics is no work in flight
    assert "made" not in text  # what a client makes up is no label


async def test_feedback_is_on_disk_when_it_is_answered(client: httpx.AsyncClient, settings: Settings) -> None:
    completion_id = "chatcmpl-" + "0" * 32
    first = await client.post("/v1/feedback", json={"completion_id": completion_id, "rating": "up"})
    await client.post("/v1/feedback", json={"completion_id": completion_id, "rating": "down", "comment": "Не то\n"})
    assert first.status_code == 201
    (file,) = (settings.root / "feedback").glob("*.jsonl")
    up, down = (json.loads(line) for line in file.read_text().splitlines())
    assert set(up) == {"id", "at", "fingerprint", "completion_id", "rating"}
    assert up["id"] == first.json()["id"]
    assert down["comment"] == "Не то\n"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "param"),
    [({"rating": "5"}, "rating"), ({"completion_id": "x"}, "completion_id"), ({"comment": "a" * 5000}, "comment")],
)
async def test_feedback_that_does_not_fit_is_refused(
    client: httpx.AsyncClient, change: dict[str, str], param: str
) -> None:
    body = {"completion_id": "chatcmpl-" + "0" * 32, "rating": "up"} | change
    assert_refused(await client.post("/v1/feedback", json=body), 400, param)


async def test_feedback_that_cannot_be_kept_says_so(client: httpx.AsyncClient, tmp_path: Path) -> None:
    os.close(os.open(tmp_path / "feedback", os.O_CREAT))  # a file where the folder would be
    body = {"completion_id": "chatcmpl-" + "0" * 32, "rating": "up"}
    response = await client.post("/v1/feedback", json=body)
    assert response.status_code == 503
    assert "disk space" in response.json()["error"]["message"]
    assert str(tmp_path) not in response.text
