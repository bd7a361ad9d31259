"""What runs inside Triton, and the typed graph that Triton is configured from."""
