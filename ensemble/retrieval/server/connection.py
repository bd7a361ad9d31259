"""What Slipstream keeps on a Qdrant server, and how it says that the server does not do its part.

A version is a collection ``<name>__<version>`` of the server; the alias ``<name>`` points at the published one and is
moved in one request. What a version remembers of its making is the metadata of its collection (Qdrant 1.16 and later).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from slipstream.ensemble.retrieval.errors import CollectionNameInvalid, StoreUnavailable, VersionGone
from slipstream.ensemble.retrieval.freshness.revisions import retained
from slipstream.ensemble.retrieval.naming import check_name, is_version, made_at
from slipstream.ensemble.retrieval.store import VersionInfo

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

METADATA = "slipstream"


class Connection:
    """A client, what errors call its server, and the versions that are there."""

    def __init__(self, client: "QdrantClient", place: str, abandoned_after: timedelta) -> None:
        self._client = client
        self._place = place
        self._abandoned_after = abandoned_after

    def published(self, collection: str) -> dict[str, Any] | None:
        """What the published version remembers, or None. The server resolves the alias: one request."""
        check_name(collection)
        with self.reaching() as client:
            return metadata(client, collection)

    def check_free(self, collection: str) -> None:
        """
        Raises:
            CollectionNameInvalid: somebody else's collection or alias has that name.
        """
        with self.reaching() as client:
            taken = {description.name for description in client.get_collections().collections}
            taken |= {alias.alias_name for alias in client.get_aliases().aliases}
            if collection in taken and metadata(client, collection) is None:
                raise CollectionNameInvalid(
                    f"{collection!r} is a collection of {self._place} that Slipstream did not make",
                    "Choose another name with --collection.",
                )

    def kept(self, collection: str) -> list[VersionInfo]:
        """The published version, then the earlier ones that are kept, the last published first."""
        published = self.published(collection)
        if published is None:
            return []
        found = [to_info(published)]
        with self.reaching() as client:
            for version in _kept(published)[1:]:
                facts = metadata(client, physical(collection, version))
                if facts is not None:
                    found.append(to_info(facts))
        return found

    def publish(self, info: VersionInfo, keep: int) -> None:
        """Point the alias of the collection at the version ``info``; searches see it from the next request on."""
        from qdrant_client import models

        others = [other for other in self.kept(info.collection) if other.version != info.version]
        before = self.published(info.collection)
        facts = asdict(info) | {"kept": retained([info, *others], keep)}
        target = models.CreateAlias(collection_name=physical(info.collection, info.version), alias_name=info.collection)
        switch: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=target)]
        if before is not None:
            gone = models.DeleteAlias(alias_name=info.collection)
            switch.insert(0, models.DeleteAliasOperation(delete_alias=gone))
        with self.reaching() as client:
            client.update_collection(target.collection_name, metadata={METADATA: facts | {"published": True}})
            client.update_collection_aliases(switch)

    def prune(self, collection: str) -> None:
        """Remove versions that are not kept and what dead writers left."""
        published = self.published(collection)
        keep = [] if published is None else _kept(published)
        with self.reaching() as client:
            for version in versions(client, collection):
                old = datetime.now(UTC) - made_at(version) >= self._abandoned_after
                if version not in keep and (old or _is_published(client, physical(collection, version))):
                    client.delete_collection(physical(collection, version))

    @contextmanager
    def reaching(self) -> "Iterator[QdrantClient]":
        """The client; what goes wrong with it becomes `StoreUnavailable`, naming the server and never the key."""
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

        try:
            yield self._client
        except (ApiException, QdrantException, ValueError, RuntimeError, AssertionError) as error:
            if _is_missing(error):
                raise VersionGone(f"Qdrant at {self._place}: {_one_line(error)}", "Try again.") from error
            if _is_strange(error):
                raise StoreUnavailable(
                    f"What is at {self._place} does not answer like Qdrant: {_one_line(error)}",
                    "Set QDRANT_URL to the address of a Qdrant server, or unset it to use the embedded index.",
                ) from error
            what_next = f"Start Qdrant at {self._place}, or unset QDRANT_URL to use the embedded index."
            if isinstance(error, UnexpectedResponse):
                what_next = "Look into Qdrant's log."
                if error.status_code in (401, 403):
                    what_next = "Set QDRANT_API_KEY to a key that may do this."
            raise StoreUnavailable(f"Qdrant at {self._place} failed: {_one_line(error)}", what_next) from error


def physical(collection: str, version: str) -> str:
    return f"{collection}__{version}"


def versions(client: "QdrantClient", collection: str) -> list[str]:
    """Every version of ``collection`` that is on the server, published or not, oldest first."""
    names = (description.name.rpartition("__") for description in client.get_collections().collections)
    return sorted(version for name, _, version in names if name == collection and is_version(version))


def metadata(client: "QdrantClient", name: str) -> dict[str, Any] | None:
    """What a version (by its own name, or by its alias) remembers; None if there is none or it is not ours."""
    try:
        facts: dict[str, Any] | None = (client.get_collection(name).config.metadata or {}).get(METADATA)
    except Exception as error:
        if _is_missing(error):
            return None
        raise
    return facts


def _is_missing(error: Exception) -> bool:
    """Whether there is no such collection: the server's 404, or how the in-memory mode says it."""
    from qdrant_client.http.exceptions import UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404 and _says_why(error.content)
    return isinstance(error, ValueError) and str(error).endswith("not found")


def _is_strange(error: Exception) -> bool:
    """Whether Qdrant would not have answered so: a page for people, a redirection, JSON of another shape."""
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return error.status_code is not None and (error.status_code == 404 or error.status_code < 400)
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, ValueError)
    return isinstance(error, AssertionError | json.JSONDecodeError)


def _says_why(content: bytes) -> bool:
    """Whether an error has Qdrant's shape: ``{"status": {"error": "Not found: ..."}, "time": 0.0}``."""
    try:
        return isinstance(json.loads(content)["status"]["error"], str)
    except (ValueError, TypeError, KeyError):
        return False


def to_info(facts: Mapping[str, Any]) -> VersionInfo:
    return VersionInfo(**{name: facts[name] for name in VersionInfo.__dataclass_fields__})


def _kept(facts: Mapping[str, Any]) -> list[str]:
    """The versions that stay, as the published one remembers them; one made before there were any knows its last."""
    return list(facts.get("kept") or filter(None, (facts["version"], facts.get("previous"))))


def _is_published(client: "QdrantClient", name: str) -> bool:
    facts = metadata(client, name)
    return facts is not None and facts["published"] is True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
