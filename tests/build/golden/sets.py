"""Golden sets about a tree of sources, written by what the index finds in it."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from slipstream.build.golden.questions import chunks_by_path


def write_golden(path: Path, source: str, uses: Sequence[str], reference: str = "") -> Path:
    """A set that asks what each of the first definitions in ``source`` is, one question for each of ``uses``."""
    chunks = [chunk for file in chunks_by_path([source]).values() for chunk in file if chunk.symbol]
    asked = [
        {
            "id": f"q{number}",
            "use": use,
            "question": f"What is {chunk.symbol} in {chunk.path}?",
            "reference": reference,
            "answers": [{key: getattr(chunk, key) for key in ("path", "symbol", "line_start", "line_end")}],
        }
        for number, (use, chunk) in enumerate(zip(uses, chunks, strict=False))
    ]
    path.write_text(yaml.safe_dump({"sources": [source], "questions": asked}), encoding="utf-8")
    return path
