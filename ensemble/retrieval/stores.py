"""Which vector store the settings name."""

import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from slipstream import InputError
from slipstream.ensemble.retrieval.store import VectorStore
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.ensemble.retrieval.server import ServerStore

log = structlog.get_logger(__name__)

# A batch of 256 chunks with their vectors is about 2 MB of JSON.
_TIMEOUT_S = 30


class StoreAddressInvalid(InputError):
    """The URL of the Qdrant server is none."""


def open_store(settings: Settings, timeout_s: int = _TIMEOUT_S) -> VectorStore:
    """The Qdrant server of ``settings.qdrant_url`` if it is set, else Qdrant Edge below ``settings.index_dir``.

    Nothing is reached or opened yet: that happens on first use, and raises `StoreUnavailable` there.

    Raises:
        StoreAddressInvalid: the URL has no scheme and host.
    """
    if settings.qdrant_url is None:
        from slipstream.ensemble.retrieval.edge import EdgeStore

        return EdgeStore(settings.index_dir)
    key = settings.qdrant_api_key
    return open_server(settings.qdrant_url, key.get_secret_value() if key else None, timeout_s)


def open_server(url: str, api_key: str | None, timeout_s: int = _TIMEOUT_S) -> "ServerStore":
    """
    Raises:
        StoreAddressInvalid: the URL has no scheme and host.
    """
    from qdrant_client import QdrantClient

    from slipstream.ensemble.retrieval.server import ServerStore

    place = _place(url)
    if api_key and place.startswith("http:"):
        log.warning("qdrant.api_key_unencrypted", place=place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the client's way to say the same
        client = QdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False)
    return ServerStore(client, place)


def _place(url: str) -> str:
    """``url`` without the user and password that it may carry."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise StoreAddressInvalid("QDRANT_URL is not the URL of a server", "Write it as http://HOST:6333.")
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")
