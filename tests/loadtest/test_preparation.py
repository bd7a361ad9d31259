"""Before a load is sent: what the command line may change, and what a server is asked of itself."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from slipstream import InputError
from slipstream.loadtest import preparation
from slipstream.loadtest.credentials import API_KEY
from slipstream.loadtest.loading import ScenarioInvalid, load_scenario
from slipstream.loadtest.preparation import LocustMissing, asked, changed, prepare
from slipstream.profiling.limit import known
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.telemetry import processes
from slipstream.settings import Settings
from tests.loadtest.conftest import write_scenario
from tests.loadtest.results.test_achieved import LIMIT
from tests.loadtest.scripted import Script, scripted

KEY = "a-key-of-somebody"


def told(status: str, body: bytes, *headers: str, heads: list[str] | None = None) -> Script:
    """Answers one request without a body."""

    def script(connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        if heads is not None:
            heads.append(received.decode())
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return script


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"rate": 200_000.0}, "arrivals.rate"),
        ({"rate": float("nan")}, "arrivals.rate"),
        ({"duration": float("inf")}, "duration"),
        ({"requests": 20_000_000}, "requests"),
    ],
)
def test_what_the_command_line_says_has_to_fit_too(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ScenarioInvalid, match=f"default, as the command line changes it: {place}: ") as caught:
        changed("default", changes)
    assert caught.value.remedy == f"change {place}"


def test_a_server_is_asked_of_itself_with_the_key_and_whether_or_not_its_address_ends_with_v1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(API_KEY, KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # the load does not go through it either
    heads: list[str] = []
    with scripted(told("200 OK", json.dumps({"bundle": {"id": "ab"}}).encode(), heads=heads)) as server:
        found = [asked(server.host + ending) for ending in ("", "/", "/v1", "/v1/")]
    assert found == [{"bundle": {"id": "ab"}}] * 4
    assert all(head.startswith("GET /v1/metadata HTTP/1.1\r\n") for head in heads)
    assert all(f"Authorization: Bearer {KEY}\r\n" in head for head in heads)


@pytest.mark.parametrize(
    "script",
    [
        told("404 Not Found", b"{}"),
        told("401 Unauthorized", b"{}"),
        told("200 OK", b"\xff\xfe{"),
        told("200 OK", b"[]"),
        told("200 OK", b"no gzip", "Content-Encoding: gzip"),
        told("no status", b""),
    ],
)
def test_a_server_that_knows_no_such_page_says_nothing_of_itself(script: Script) -> None:
    with scripted(script) as server:
        assert asked(server.host) is None


@pytest.mark.parametrize(
    "address", ["http://me:hidden@127.0.0.1:1", "http://127.0.0.1:1/?key=hidden", "http://127.0.0.1:1/#hidden"]
)
def test_an_address_with_a_secret_is_refused_without_saying_it(address: str) -> None:
    with pytest.raises(InputError, match="the report would show") as caught:
        asked(address)
    assert "hidden" not in caught.value.message
    assert API_KEY in (caught.value.remedy or "")


@pytest.mark.parametrize("address", ["http://a..b", "http://[::1", "http://"])
def test_what_is_no_address_is_said_before_anything_else(address: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        asked(address)


def test_without_locust_nothing_is_begun_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "find_spec", lambda name: None)
    with pytest.raises(LocustMissing) as caught:
        prepare(load_scenario("smoke"), "http://127.0.0.1:1", Settings(home=tmp_path), None)
    assert "slipstream[loadtest]" in caught.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("listening", "bundle", "kept"),
    [
        ({1: "facade"}, {"id": "0123abcd"}, True),
        ({1: "ssh"}, {"id": "0123abcd"}, False),  # a tunnel: what answers runs elsewhere
        ({}, {"id": "0123abcd"}, False),
        ({1: "facade"}, {}, False),
    ],
)
def test_the_limit_is_kept_where_the_server_and_its_bundle_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: dict[int, str], bundle: dict[str, str], kept: bool
) -> None:
    asked_for: list[tuple[Path, str]] = []

    def limit_here(home: Path, bundle_id: str) -> Limit:
        asked_for.append((home, bundle_id))
        return LIMIT

    monkeypatch.setattr(processes, "server_processes", lambda url: listening)
    monkeypatch.setattr(known, "limit_here", limit_here)
    load = load_scenario(str(write_scenario(tmp_path)))
    with scripted(told("200 OK", json.dumps({"bundle": bundle}).encode())) as server:
        folder = prepare(load, server.host, Settings(home=tmp_path), None)
    assert asked_for == ([(tmp_path, "0123abcd")] if kept else [])
    assert Limit.read(folder.limit) == (LIMIT if kept else None)


def test_a_bundle_whose_limit_is_not_known_is_loaded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "server_processes", lambda url: {1: "facade"})
    load = load_scenario(str(write_scenario(tmp_path)))
    with scripted(told("200 OK", b'{"bundle": {"id": "0123abcd"}}')) as server:
        folder = prepare(load, server.host, Settings(home=tmp_path), None)
    assert not folder.limit.exists()
