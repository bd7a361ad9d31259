"""Nsight Compute: the kernels of a decode step, measured one by one against what the card could do."""
