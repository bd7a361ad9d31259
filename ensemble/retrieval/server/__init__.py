"""Collections on a Qdrant server."""

from slipstream.ensemble.retrieval.server.store import ServerStore

__all__ = ["ServerStore"]
