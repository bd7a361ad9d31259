"""The Triton server: its typed model graph, and its process."""
