"""Chunks of a text, and the check that they are faithful to it."""

from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.store import Chunk


def chunks_of(name: str, text: str) -> list[Chunk]:
    return chunk_file(name, text.encode(), "repo")


def symbols_of(name: str, text: str) -> list[str]:
    return [chunk.symbol for chunk in chunks_of(name, text)]


def assert_faithful(chunks: list[Chunk], text: str) -> None:
    """Every line that is not blank is in a chunk, and a chunk is exactly the lines it says."""
    lines = text.split("\n")
    covered: set[int] = set()
    for chunk in chunks:
        assert 1 <= chunk.line_start <= chunk.line_end <= len(lines)
        whole = "\n".join(lines[chunk.line_start - 1 : chunk.line_end])
        is_part_of_a_long_line = chunk.line_start == chunk.line_end and chunk.text in whole
        assert chunk.text == whole or is_part_of_a_long_line
        assert chunk.text.strip()
        covered.update(range(chunk.line_start, chunk.line_end + 1))
    missing = [number for number, line in enumerate(lines, 1) if line.strip() and number not in covered]
    assert not missing
