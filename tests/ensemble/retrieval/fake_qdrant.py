"""A fake of the Qdrant server, for tests: the REST calls that `ServerStore` makes, over the real engine.

No package of the registries ships the server's binary. Qdrant Edge is the same engine as a library, so what is stored,
found and scored here is real; routes, names, aliases and the shape of the answers are imitated. Nothing is kept: a
collection lives in a temporary folder as long as its server.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import qdrant_edge as edge

Json = dict[str, Any]


class Missing(Exception):
    """The server's 404."""


class FakeCollection:
    """One collection: what it was created with, and a shard."""

    def __init__(self, path: Path, created: Json) -> None:
        self.created = created
        vectors = {
            name: edge.EdgeVectorParams(size=params["size"], distance=getattr(edge.Distance, params["distance"]))
            for name, params in created["vectors"].items()
        }
        sparse = {name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in created["sparse_vectors"]}
        self.shard = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=vectors, sparse_vectors=sparse))

    def info(self) -> Json:
        params = {"vectors": self.created["vectors"], "sparse_vectors": self.created["sparse_vectors"]}
        hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000} | (self.created.get("hnsw_config") or {})
        optimizer = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 0}
        config = {"params": params, "hnsw_config": hnsw, "metadata": self.created.get("metadata")}
        config["optimizer_config"] = (
            optimizer | {"flush_interval_sec": 5} | (self.created.get("optimizers_config") or {})
        )
        config["quantization_config"] = self.created.get("quantization_config")
        answer = {"status": "green", "optimizer_status": "ok", "segments_count": 1, "payload_schema": {}}
        return answer | {"points_count": self.shard.info().points_count, "config": config}

    def upsert(self, body: Json) -> Json:
        points = [
            edge.Point(point["id"], {name: _vector(value) for name, value in point["vector"].items()}, point["payload"])
            for point in body["points"]
        ]
        self.shard.update(edge.UpdateOperation.upsert_points(points))
        return {"operation_id": 0, "status": "completed"}

    def scroll(self, body: Json) -> Json:
        with_vector = body.get("with_vector") or body.get("with_vectors") or False
        request = edge.ScrollRequest(
            offset=body.get("offset"), limit=body["limit"], with_payload=True, with_vector=with_vector
        )
        records, offset = self.shard.scroll(request)
        points = [
            {"id": str(record.id), "payload": record.payload, "vector": _as_json(record.vector)} for record in records
        ]
        return {"points": points, "next_page_offset": str(offset) if offset else None}

    def retrieve(self, body: Json) -> list[Json]:
        records = self.shard.retrieve(body["ids"], with_payload=True, with_vector=False)
        return [{"id": str(record.id), "payload": record.payload} for record in records]

    def query(self, search: Json) -> Json:
        wanted = search["query"]
        must: list[Any] = [
            edge.HasIdCondition(set(one["has_id"]))
            if "has_id" in one
            else edge.FieldCondition(one["key"], match=edge.MatchValue(one["match"]["value"]))
            for one in (search.get("filter") or {}).get("must") or []
        ]
        request = edge.QueryRequest(
            limit=search["limit"],
            query=edge.Query.Nearest(_vector(wanted.get("nearest", wanted) if isinstance(wanted, dict) else wanted),
                                     using=search["using"]),
            filter=edge.Filter(must=must),
            with_payload=search.get("with_payload", False),
        )  # fmt: skip
        found = self.shard.query(request)
        points = [
            {"id": str(point.id), "version": 0, "score": point.score, "payload": point.payload} for point in found
        ]
        return {"points": points}


def _vector(value: Any) -> Any:
    return edge.SparseVector(value["indices"], value["values"]) if isinstance(value, dict) else value


def _as_json(vectors: Any) -> Any:
    if not vectors:
        return None
    return {
        name: {"indices": list(value.indices), "values": list(value.values)}
        if hasattr(value, "indices")
        else list(value)
        for name, value in vectors.items()
    }


class FakeQdrant:
    """All collections of a server, below ``folder``. One request at a time.

    Attributes:
        searches: those that were asked, as they came.
        before_upsert: called with the name of the collection before points are added; a test may fail there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._made = 0
        self.collections: dict[str, FakeCollection] = {}
        self.aliases: dict[str, str] = {}
        self.searches: list[Json] = []
        self.before_upsert: Callable[[str], None] = lambda name: None

    def answer(self, method: str, path: str, body: Json) -> Any:
        """The result of a request.

        Raises:
            Missing: there is no such collection.
        """
        with self._lock:
            if (method, path) == ("GET", "/collections"):
                return {"collections": [{"name": name} for name in self.collections]}
            if (method, path) == ("GET", "/aliases"):
                named = self.aliases.items()
                return {"aliases": [{"alias_name": alias, "collection_name": name} for alias, name in named]}
            if (method, path) == ("POST", "/collections/aliases"):
                return self._switch(body["actions"])
            place = re.fullmatch(r"/collections/([^/]+)(?:/(.+))?", path)
            if place is None:
                raise Missing(path)
            return self._of_collection(method, place[1], place[2] or "", body)

    def _of_collection(self, method: str, name: str, what: str, body: Json) -> Any:
        if (method, what) == ("PUT", ""):
            self._made += 1
            self.collections[name] = FakeCollection(self._folder / f"{self._made}", body)
            return True
        real = self.aliases.get(name, name)
        if real not in self.collections:
            raise Missing(f"Not found: Collection `{name}` doesn't exist!")
        collection = self.collections[real]
        if (method, what) == ("DELETE", ""):
            del self.collections[real]
            self.aliases = {alias: target for alias, target in self.aliases.items() if target != real}
            return True
        if (method, what) == ("PATCH", ""):
            collection.created |= {key: value for key, value in body.items() if value is not None}
            return True
        if (method, what) == ("PUT", "index"):
            schema = getattr(edge.PayloadSchemaType, body["field_schema"].capitalize())
            collection.shard.update(edge.UpdateOperation.create_field_index(body["field_name"], schema))
            return {"operation_id": 0, "status": "completed"}
        if (method, what) == ("PUT", "points"):
            self.before_upsert(real)
        self.searches += body.get("searches", [])
        answers: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", ""): collection.info,
            ("PUT", "points"): lambda: collection.upsert(body),
            ("POST", "points"): lambda: collection.retrieve(body),
            ("POST", "points/count"): lambda: {"count": collection.shard.info().points_count},
            ("POST", "points/scroll"): lambda: collection.scroll(body),
            ("POST", "points/query/batch"): lambda: [collection.query(search) for search in body["searches"]],
        }
        return answers[method, what]()

    def _switch(self, actions: list[Json]) -> bool:
        for action in actions:
            if (gone := action.get("delete_alias")) is not None:
                del self.aliases[gone["alias_name"]]
            if (made := action.get("create_alias")) is not None:
                self.aliases[made["alias_name"]] = made["collection_name"]
        return True


@contextmanager
def fake_qdrant(folder: Path) -> Iterator[tuple[str, FakeQdrant]]:
    """The URL of a server on a free port of 127.0.0.1, and what is behind it."""
    qdrant = FakeQdrant(folder)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers["Content-Length"] or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            try:
                status, said = (
                    200,
                    {"result": qdrant.answer(self.command, urlsplit(self.path).path, body), "status": "ok"},
                )
            except Missing as error:
                status, said = 404, {"status": {"error": str(error)}}
            except Exception as error:
                status, said = 500, {"status": {"error": repr(error)}}
            data = json.dumps(said | {"time": 0.0}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (the names that the base class calls)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", qdrant
        server.shutdown()
        thread.join()
