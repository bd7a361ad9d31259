"""The facade's gRPC client of the ensemble."""

from slipstream.api.triton.client import Limits, TritonClient
from slipstream.api.triton.stream import Piece

__all__ = ["Limits", "Piece", "TritonClient"]
