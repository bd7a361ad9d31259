"""Jupyter notebooks: the source of their cells, with the lines of the ``.ipynb`` file that it stands on.

nbformat writes every line of a cell as one string on a line of its own, so a place in the source has a line in the
file. Outputs, images and metadata are left out.
"""

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # it is there since Python 2.6
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from slipstream.ensemble.retrieval.languages import LANGUAGES, PYTHON, Language

_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_MAX_TITLE = 120  # characters, as of a Markdown heading
_KERNELS = {"c++": "cpp", "ipython": "python"} | {language.name: language.name for language in LANGUAGES}
_BY_NAME = {language.name: language for language in reversed(LANGUAGES)}


@dataclass(frozen=True, slots=True)
class Cell:
    """Source of one cell.

    Attributes:
        lines: without line ends.
        numbers: the line of the file where each stands, counted from 1.
        is_code: for each, whether it is in the notebook's language (not prose, not ``%magic``).
        title: the heading that a Markdown cell begins with; empty without one.
    """

    lines: list[str]
    numbers: list[int]
    is_code: list[bool]
    title: str


@dataclass(frozen=True, slots=True)
class Notebook:
    """``language`` is the kernel's; None if none of ours."""

    cells: list[Cell]
    language: Language | None


class _Placed(str):
    """A string of a JSON document that knows where its quotation mark stands."""

    __slots__ = ("at",)
    at: int


class _PlacingDecoder(json.JSONDecoder):
    """Reads JSON into the usual objects, but with every string a `_Placed`."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = _placed
        self.scan_once = py_make_scanner(self)  # the one in C has no place for `parse_string`


def _placed(document: str, start: int, strict: bool = True) -> tuple[str, int]:
    text, end = scanstring(document, start, strict)
    placed = _Placed(text)
    placed.at = start - 1
    return placed, end


def is_notebook(path: str) -> bool:
    return path.lower().endswith(".ipynb")


def is_readable(data: bytes) -> bool:
    """Whether ``data`` is a notebook whose cells stand on lines of their own: in one line there is nothing to cite."""
    try:
        cells = json.loads(data)["cells"]
        return isinstance(cells, list) and data.strip().count(b"\n") >= len(cells)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def read_notebook(data: bytes) -> Notebook | None:
    """The cells that hold anything; None if `is_readable` says no."""
    if not is_readable(data):
        return None
    try:
        text = data.decode(json.detect_encoding(data))
        document = _PlacingDecoder().decode(text)
    except (ValueError, RecursionError):
        return None
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    cells = [cell for raw in document["cells"] if (cell := _cell(raw, starts)) is not None]
    return Notebook(cells, _language(document.get("metadata")))


def _cell(raw: Any, starts: list[int]) -> Cell | None:
    source = raw.get("source") if isinstance(raw, dict) else None
    parts = [source] if isinstance(source, str) else source
    if not isinstance(parts, list):
        return None
    lines: list[str] = []
    numbers: list[int] = []
    for part in parts:
        if not isinstance(part, _Placed):
            continue
        number = bisect_right(starts, part.at)
        # An escape such as \ud800 is half a character, which no text can hold.
        for line in part.encode("utf-8", "replace").decode().removesuffix("\n").split("\n"):
            lines.append(line)
            numbers.append(number)
    if not any(line.strip() for line in lines):
        return None
    if raw.get("cell_type") != "code":
        heading = next((match for line in lines if (match := _HEADING.match(line))), None)
        return Cell(lines, numbers, [False] * len(lines), heading[1].strip("# ")[:_MAX_TITLE] if heading else "")
    whole = not lines[0].startswith("%%")  # a cell magic: what follows is shell, HTML, SQL
    return Cell(lines, numbers, [whole and not line.lstrip().startswith(("%", "!")) for line in lines], "")


def _language(metadata: Any) -> Language | None:
    """What the kernel speaks: Python where nothing is said, as in most that were written by hand."""
    metadata = metadata if isinstance(metadata, dict) else {}
    for key, field in (("language_info", "name"), ("kernelspec", "language")):
        told = metadata.get(key)
        if isinstance(told, dict) and isinstance(name := told.get(field), str):
            return _BY_NAME.get(_KERNELS.get(name.lower(), ""))
    return PYTHON


__all__ = ["Cell", "Notebook", "is_notebook", "is_readable", "read_notebook"]
