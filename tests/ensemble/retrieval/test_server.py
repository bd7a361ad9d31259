"""A Qdrant server: how it is chosen, what it answers when it is none, and what is left on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.errors import (
    CollectionNameInvalid,
    CollectionNotFound,
    StoreUnavailable,
    VersionGone,
)
from slipstream.ensemble.retrieval.server import ServerStore
from slipstream.ensemble.retrieval.stores import StoreAddressInvalid, open_server, open_store
from slipstream.settings import Settings
from tests.ensemble.retrieval.corpus import DIMENSION, EMBEDDER, point, publish
from tests.ensemble.retrieval.fake_qdrant import fake_qdrant
from tests.loopback import listening


def test_settings_choose_the_store(tmp_path: Any) -> None:
    assert isinstance(open_store(Settings(home=tmp_path)), EdgeStore)
    assert isinstance(open_store(Settings(home=tmp_path, qdrant_url="http://127.0.0.1:6333")), ServerStore)


@pytest.mark.parametrize("url", ["", "localhost:6333", "127.0.0.1", ":memory:", "ftp://host", "http://", "http://h:x"])
def test_a_url_that_is_none_is_refused(tmp_path: Any, url: str) -> None:
    with pytest.raises(StoreAddressInvalid):
        open_store(Settings(home=tmp_path, qdrant_url=url))


def test_a_server_that_does_not_answer_is_named_without_its_secrets(tmp_path: Any, unused_port: int) -> None:
    url = f"http://user:hunter2@127.0.0.1:{unused_port}"
    store = open_store(Settings(home=tmp_path, qdrant_url=url, qdrant_api_key=SecretStr("s3cret")))
    asks: list[Any] = [store.collections, lambda: store.current("code"), lambda: store.reader("code")]
    for ask in (*asks, lambda: store.writer("code", EMBEDDER, DIMENSION), lambda: store.drop("code")):
        with pytest.raises(StoreUnavailable) as caught:
            ask()
        said = caught.value.message + caught.value.remedy
        assert f"http://127.0.0.1:{unused_port}" in said
        assert "s3cret" not in said
        assert "hunter2" not in said


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that has one answer to everything."""

    class Server(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 (the names that the base class calls)

        def log_message(self, *_: object) -> None: ...

    with listening(Server) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"{}"), (200, b"[]"), (200, b"null"), (200, b"<html>"), (404, b"<html>"), (404, b'{"detail": "no"}'),
     (302, b"")],
)  # fmt: skip
def test_a_server_that_is_no_qdrant_is_told(tmp_path: Any, status: int, body: bytes) -> None:
    with answering(status, body) as url:
        store = open_store(Settings(home=tmp_path, qdrant_url=url))
        for ask in (
            store.collections,
            lambda: store.current("code"),
            lambda: store.writer("code", EMBEDDER, DIMENSION),
        ):
            with pytest.raises(StoreUnavailable, match="does not answer like Qdrant") as caught:
                ask()
            assert not isinstance(caught.value, VersionGone)
            assert "QDRANT_URL" in caught.value.remedy


def test_what_qdrant_says_is_missing_is_no_collection(tmp_path: Any) -> None:
    said = b'{"status": {"error": "Not found: Collection `code` doesn\'t exist!"}, "time": 0.0}'
    with answering(404, said) as url, pytest.raises(CollectionNotFound):
        open_store(Settings(home=tmp_path, qdrant_url=url)).current("code")


def test_somebody_elses_collection_is_left_alone() -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection("theirs", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    alias = models.CreateAlias(collection_name="theirs", alias_name="also-theirs")
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    store = ServerStore(client)
    assert store.collections() == []
    for name in ("theirs", "also-theirs"):
        with pytest.raises(CollectionNotFound):
            store.current(name)
        with pytest.raises(CollectionNameInvalid):
            store.writer(name, EMBEDDER, DIMENSION)
        with pytest.raises(CollectionNotFound):
            store.drop(name)
    assert client.collection_exists("theirs")
    client.close()


def test_a_server_keeps_the_last_two_versions_and_no_dead_writers() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    careful, tidy = ServerStore(client), ServerStore(client, abandoned_after=timedelta(0))
    publish(careful, [point("a.py")])
    careful.writer("code", EMBEDDER, DIMENSION).upsert([point("dead.py")])
    versions = [publish(careful, [point("a.py")]).version for _ in range(3)]
    kept = {collection.name for collection in client.get_collections().collections}
    assert len(kept) == 3
    assert kept > {f"code__{version}" for version in versions[1:]}
    last = publish(tidy, [point("a.py")]).version
    kept = {collection.name for collection in client.get_collections().collections}
    assert kept == {f"code__{versions[2]}", f"code__{last}"}
    client.close()


def test_a_discarded_version_leaves_nothing_on_the_server() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    with ServerStore(client).writer("code", EMBEDDER, DIMENSION) as writer:
        writer.upsert([point("a.py")])
    assert client.get_collections().collections == []
    client.close()


def test_a_server_that_makes_half_of_a_version_is_left_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_qdrant(tmp_path) as (url, qdrant):
        real = qdrant.answer

        def full(method: str, path: str, body: dict[str, Any]) -> Any:
            if path.endswith("/index"):
                raise OSError("No space left on device")
            return real(method, path, body)

        monkeypatch.setattr(qdrant, "answer", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            open_server(url, None).writer("code", EMBEDDER, DIMENSION)
        assert qdrant.collections == {}
