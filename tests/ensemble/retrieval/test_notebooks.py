"""Notebooks: what their cells hold, at the lines of the .ipynb file where it stands."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.ensemble.retrieval.chunker import chunk_file, cut_file
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import Skipped, resolve_root, walk

IMAGE = "iVBORw0KGgo" * 5_000


def cell(kind: str, source: str | list[str], outputs: list[Any] | None = None) -> dict[str, Any]:
    code = {} if kind == "markdown" else {"execution_count": 1, "outputs": outputs or []}
    lines = source.splitlines(keepends=True) if isinstance(source, str) else source
    return {"cell_type": kind, "metadata": {}, **code, "source": lines}


def notebook(*cells: dict[str, Any], language: str = "python", indent: int | None = 1) -> bytes:
    metadata = {"kernelspec": {"language": language, "name": "kernel"}}
    return (json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4}, indent=indent) + "\n").encode()


def cited(chunk: Chunk, data: bytes) -> str:
    return "\n".join(data.decode().split("\n")[chunk.line_start - 1 : chunk.line_end])


def test_a_function_is_cited_where_it_stands_in_the_file() -> None:
    data = notebook(
        cell("markdown", "# Prices\n\nHow they are made."), cell("code", "def price(cart):\n    return 42\n")
    )
    prose, code = chunk_file("a.ipynb", data, "repo")
    assert (prose.symbol, prose.text) == ("Prices", "# Prices\n\nHow they are made.")
    assert (code.symbol, code.language, code.text) == ("price", "python", "def price(cart):\n    return 42")
    assert [line.strip().strip('",') for line in cited(code, data).split("\n")] == [
        r"def price(cart):\n",
        r"    return 42\n",
    ]


def test_outputs_and_images_are_left_out() -> None:
    output = [{"output_type": "display_data", "data": {"image/png": IMAGE, "text/plain": ["SECRET OUTPUT"]}}]
    data = notebook(cell("code", "plot(1)\n", output), cell("code", "plot(2)\n"))
    text = "".join(chunk.text for chunk in chunk_file("a.ipynb", data, "repo"))
    assert ("plot(1)" in text, "plot(2)" in text) == (True, True)
    assert ("iVBOR" in text, "SECRET" in text) == (False, False)


def test_a_citation_does_not_span_a_long_output() -> None:
    output = [{"text": ["line\n"] * 500}]  # nbformat writes it above the source of its cell
    data = notebook(cell("code", "a = first()\n"), cell("code", "b = second()\n", output))
    chunks = chunk_file("a.ipynb", data, "repo")
    assert [chunk.text for chunk in chunks] == ["a = first()", "b = second()"]
    assert all(chunk.line_end - chunk.line_start < 5 for chunk in chunks)


def test_small_cells_share_a_chunk_named_by_the_heading_above() -> None:
    data = notebook(cell("markdown", "## Load\n"), cell("code", "a = 1\n"), cell("code", "b = a + a + a + a\n"))
    (chunk,) = chunk_file("a.ipynb", data, "repo")
    assert (chunk.symbol, chunk.text) == ("Load", "## Load\n\na = 1\n\nb = a + a + a + a")


def test_magics_do_not_hide_the_function_below_them() -> None:
    data = notebook(cell("code", "%matplotlib inline\n!pip install x\ndef draw():\n    return 1\n"))
    assert "draw" in [chunk.symbol for chunk in chunk_file("a.ipynb", data, "repo")]


@pytest.mark.parametrize(("kernel", "language"), [("rust", "rust"), ("C++", "cpp"), ("julia", "text"), ("R", "text")])
def test_the_kernel_says_the_language(kernel: str, language: str) -> None:
    data = notebook(cell("code", "alpha = beta(gamma, delta)\n"), language=kernel)
    assert [chunk.language for chunk in chunk_file("a.ipynb", data, "repo")] == [language]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"cells": 3}', b"\xff\xfe\x00", b"[" * 100_000,
        notebook(cell("code", "a = 1\n"), indent=None),
        notebook(*[cell("code", "a = 1\n")] * 50, indent=None),
    ],
)  # fmt: skip
def test_what_cannot_be_cited_is_counted(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ipynb").write_bytes(data)
    skipped = Skipped()
    assert list(walk([resolve_root(str(tmp_path))], skipped)) == []
    assert skipped == Skipped(broken_notebook=1)
    cut = cut_file("a.ipynb", data, "repo")  # it may have been whole when it was found
    assert (cut.chunks, cut.caveats) == ([], ["broken_notebook"])


def test_a_notebook_full_of_images_is_walked(tmp_path: Path) -> None:
    output = [{"data": {"image/png": IMAGE}}]
    (tmp_path / "a.ipynb").write_bytes(notebook(*[cell("code", "a = compute()\n", output)] * 30))
    assert [file.path for file in walk([resolve_root(str(tmp_path))])] == ["a.ipynb"]


@pytest.mark.parametrize(
    "odd",
    [
        3,
        None,
        "x",
        {"source": 3},
        {"cell_type": "code", "source": [1, None, "a = b + c + d\n"]},
        {"source": "\ud800 x"},
    ],
)
def test_a_strange_cell_costs_no_other(odd: Any) -> None:
    data = notebook(odd, cell("code", "def fine():\n    return 1\n"))
    chunks = chunk_file("a.ipynb", data, "repo")
    assert "fine" in [chunk.symbol for chunk in chunks]
    assert all(chunk.text.encode() for chunk in chunks)
