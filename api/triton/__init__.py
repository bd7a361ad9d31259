"""The facade's gRPC client of the ensemble."""

from slipstream.api.triton.client import Embedded, Limits, Searched, TritonClient
from slipstream.api.triton.stream import Piece

__all__ = ["Embedded", "Limits", "Piece", "Searched", "TritonClient"]
