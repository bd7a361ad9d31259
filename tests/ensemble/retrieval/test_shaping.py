"""What a collection has to be built anew for: each line of code that its chunks and words come from."""

import ast
from pathlib import Path

from slipstream.ensemble.retrieval import bm25, chunker, sources

PACKAGE = "slipstream.ensemble.retrieval."
SHAPES_NOTHING = {"store", "question"}  # what a chunk is; what is made of questions


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports at its top."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module is not None]
    return {name.removeprefix(PACKAGE) for name in names if name.startswith(PACKAGE)}


def test_all_that_cuts_files_and_reads_their_words_is_told_from_its_other_versions() -> None:
    folder = Path(chunker.__file__).parent
    work, shaping = [Path(module.__file__).stem for module in (bm25, chunker)], set[str]()
    while work:
        name = work.pop()
        if name not in shaping | SHAPES_NOTHING:
            shaping.add(name)
            work += imported(folder / f"{name}.py")
    assert {module.__name__.removeprefix(PACKAGE) for module in sources._SHAPING} == shaping
    assert len(shaping) > 6


def test_so_are_the_grammars_and_the_stemmer() -> None:
    code = sources.shaping_code()
    assert "\ntree-sitter-python==" in code
    assert "\nPyStemmer==" in code
