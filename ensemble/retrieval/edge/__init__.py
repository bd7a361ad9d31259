"""Collections on this machine, in Qdrant's engine inside this process."""

from slipstream.ensemble.retrieval.edge.store import EdgeStore

__all__ = ["EdgeStore"]
