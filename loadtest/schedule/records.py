"""JSON lines that a person hands in: objects with their line, and one-line errors for everything else."""

import json
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from slipstream import InputError


def read_records(path: Path, known: Collection[str], error: type[InputError], remedy: str) -> Iterator[tuple[str, Any]]:
    """``(FILE:LINE, object)`` for each line of ``path`` that is not blank.

    Keys beside the ``known`` ones are left to who reads the objects, but for one that looks like a known one misspelt.

    Raises:
        InputError: as ``error`` with ``remedy``: no readable file, not UTF-8, or a line that is no JSON object.
    """
    for number, line in enumerate(_text(path, error, remedy).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as fault:
            said = fault.msg if isinstance(fault, json.JSONDecodeError) else "nested too deeply or a number too long"
            raise error(f"{place} is no JSON: {said}", remedy) from fault
        if not isinstance(record, dict):
            raise error(f"{place} is no JSON object", remedy)
        for key in record.keys() - set(known):
            if meant := get_close_matches(key, known, n=1, cutoff=0.85):
                raise error(f"{place}: unknown key {key!r}", f"write {meant[0]} instead of {key}")
        yield place, record


def _text(path: Path, error: type[InputError], remedy: str) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a pipe could wait for ever
            raise error(f"{path} is no file", remedy)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error(f"there is no file {str(path)!r}", remedy) from None
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read: {fault}", remedy) from fault


__all__ = ["read_records"]
