"""Sources that were made to hold an indexer up.

The process that cuts files is ended when it takes too long; what follows then, in its parent, has nobody to end it.
"""

import time

import pytest

from slipstream.ensemble.retrieval.chunker import cut_file
from tests.ensemble.retrieval.pieces import assert_faithful

LINES = 100_000

UNPARSED = {
    "blank lines in a header": ("a.h", "int x;\n" + "\n" * LINES),
    "lines of white space in a header": ("a.h", "int x;\n" + " \t\n" * LINES),
    "a line without end, and blank lines": ("a.c", "x" * 4_000_000 + "\n" * LINES),
    "white space without end": ("a.py", "x\n" + " " * 4_000_000 + "\nx"),
    "a word without end": ("a.py", "x" * 4_000_000),
    "one letter a line": ("a.go", "x\n" * LINES),
    "every other line blank": ("a.java", "x\n\n" * LINES),
    "punctuation": ("a.md", "#" * 4_000_000),
    "combining marks": ("a.md", "e" + "\u0301\u0323" * 500_000),
    "damaged bytes": ("a.py", "\udcff" * 1_000_000),
    "cells of a notebook": (
        "a.ipynb",
        '{"cells": [\n' + ",\n".join('{"cell_type": "code", "source": [\n"x"\n]}' for _ in range(10_000)) + "]}",
    ),
}


@pytest.mark.parametrize(("name", "text"), UNPARSED.values(), ids=UNPARSED)
def test_what_is_cut_without_its_parser_takes_no_time(name: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    started = time.process_time()
    cut = cut_file(name, data, "repo", parse=False)
    assert time.process_time() - started < 6  # half a second; some of these took hours
    if name != "a.ipynb" and "\udcff" not in text:
        assert_faithful(cut.chunks, text)


@pytest.mark.parametrize("between", ["x" * 100_000, " " * 100_000], ids=["word", "space"])
def test_a_method_whose_type_is_pages_long_is_cut_as_others_are(between: str) -> None:
    text = f"package a\n\nfunc (s {between} T) Run() error {{\n\treturn nil\n}}\n\nfunc (l *List) Push() {{}}\n"
    started = time.process_time()
    cut = cut_file("a.go", text.encode(), "repo")
    assert time.process_time() - started < 3
    assert "List.Push" in [chunk.symbol for chunk in cut.chunks]
