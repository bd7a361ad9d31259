"""The thin facade: OpenAI-compatible HTTP in front of Triton."""
