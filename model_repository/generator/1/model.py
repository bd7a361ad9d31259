"""Triton's entry to the generator; what it does is in `slipstream.ensemble.triton.generator_model`."""

from slipstream.ensemble.triton.generator_model import GeneratorModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
