"""GPTQ through a whole decoder: every matrix is rounded knowing what those before it got wrong.

NNCF's GPTQ rounds each matrix of the unquantized model by itself; in a model of 135M parameters the errors then add up
from layer to layer. Here the layers are rounded in order, each on what the rounded ones before it give.
"""
