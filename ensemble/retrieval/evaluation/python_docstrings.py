"""Python's docstrings, by its own parser, which knows their exact extent."""

import ast
import warnings
from collections.abc import Iterator
from inspect import cleandoc

from slipstream.ensemble.retrieval.evaluation.documented import Documented

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def documented_by_docstrings(text: str) -> list[Documented]:
    """Every function and class, in order, its documentation empty if it has none; nothing of what is no Python."""
    tree = _parsed(text)
    if tree is None:
        return []
    lines = text.split("\n")
    found = [_documented(node, symbol, lines) for node, symbol in _definitions(tree)]
    return sorted(found, key=lambda definition: definition.first)


def is_python(text: str) -> bool:
    return _parsed(text) is not None


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's string is not ours to mend
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _definitions(tree: ast.Module) -> Iterator[tuple[_Definition, str]]:
    work: list[tuple[ast.AST, str]] = [(tree, "")]
    while work:
        node, scope = work.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Definition):
                symbol = f"{scope}.{child.name}" if scope else child.name
                yield child, symbol
                work.append((child, symbol))
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                work.append((child, scope))


def _documented(node: _Definition, symbol: str, lines: list[str]) -> Documented:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    last = (node.end_lineno or node.lineno) - 1
    statement, documentation = node.body[0], ast.get_docstring(node, clean=False)
    if documentation is None:
        return Documented(symbol, first, last, "", (first, first), lines[first])
    begin, end = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
    # The parser counts columns in bytes of UTF-8.
    before = lines[begin].encode()[: statement.col_offset].decode()
    behind = lines[end].encode()[statement.end_col_offset or 0 :].decode()
    is_needed = len(node.body) == 1 or before.strip() or behind.strip()
    instead = f"{before}...{behind}" if is_needed else ""
    return Documented(symbol, first, last, cleandoc(documentation), (begin, end), instead)


__all__ = ["documented_by_docstrings", "is_python"]
