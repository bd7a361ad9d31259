"""Triton's entry to the retriever; what it does is in `slipstream.ensemble.triton.retriever_model`."""

from slipstream.ensemble.triton.retriever_model import RetrieverModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
