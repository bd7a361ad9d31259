"""Triton's entry to the embedder; what it does is in `slipstream.ensemble.triton.embedder_model`."""

from slipstream.ensemble.triton.embedder_model import EmbedderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
