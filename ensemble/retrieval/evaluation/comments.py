"""Documentation in comments right above a definition: JSDoc, Go's and Rust's."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slipstream.ensemble.retrieval.definitions import qualified_name, rows
from slipstream.ensemble.retrieval.evaluation.documented import Documented
from slipstream.ensemble.retrieval.languages import GO, RUST, Language

if TYPE_CHECKING:
    from tree_sitter import Node

_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_BETWEEN = frozenset({"attribute_item", "decorator"})  # may stand between documentation and definition
_SCOPES_ONLY = frozenset({"impl_item", "mod_item", "module", "internal_module"})
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function", "class"})

_BLOCK = re.compile(r"/\*\*(?!\*)(.*)\*/\s*", re.DOTALL)
_DIRECTIVE = re.compile(r"//(?:go:|nolint|lint:|\s*\+build)")


def documented_by_comments(text: str, language: Language) -> list[Documented]:
    """Every definition of the file, in order, its documentation empty if it has none."""
    tree = language.parse(text.encode())
    if tree is None:
        return []
    lines = text.split("\n")
    found: list[Documented] = []
    work: list[tuple[Node, str]] = [(tree.root_node, "")]
    while work:
        node, scope = work.pop()
        above: list[Node] = []
        previous = -1
        for child in node.named_children:
            first, last = rows(child)
            if child.type in _COMMENTS or child.type in _BETWEEN:
                above = [*above, child] if not above or first <= rows(above[-1])[1] + 1 else [child]
                if first == previous:  # a remark behind the code of its own line
                    above = []
                previous = last
                continue
            defined = _defined(child, language)
            symbol = scope
            if defined is not None and (name := qualified_name(defined)):
                symbol = f"{scope}.{name}" if scope else name
                if defined.type not in _SCOPES_ONLY:
                    found.append(_documented(symbol, above, (first, last), lines, language))
            work.append((child if defined is None else defined, symbol))
            above, previous = [], last
    return sorted(found, key=lambda definition: definition.first)


def _defined(node: "Node", language: Language) -> "Node | None":
    """The one definition that ``node`` is or is wrapped around."""
    found: list[Node] = []
    work = [node]
    while work:
        current = work.pop()
        if current.type in language.symbols or (current.type in language.valued and _is_function(current)):
            found.append(current)
        elif current.type in language.wrappers:
            work.extend(current.named_children)
    return found[0] if len(found) == 1 else None


def _is_function(node: "Node") -> bool:
    value = node.child_by_field_name("value") or node.child_by_field_name("right")
    return value is not None and value.type in _FUNCTIONS


def _documented(
    symbol: str, above: Sequence["Node"], extent: tuple[int, int], lines: Sequence[str], language: Language
) -> Documented:
    first, last = extent
    nothing = Documented(symbol, first, last, "", (first, first), lines[first])
    while above and above[-1].type in _BETWEEN:
        if rows(above[-1])[1] + 1 < first:
            return nothing
        first, above = min(first, rows(above[-1])[0]), above[:-1]
    comments = _documentation(above, first, language)
    if not comments:
        return nothing
    begin, end = rows(comments[0])[0], rows(comments[-1])[1]
    if not all(_is_alone(comment, lines) for comment in comments):
        return nothing
    said = "\n".join(_said(comment, language) for comment in comments)
    return Documented(symbol, first, last, said, (begin, end))


def _documentation(above: Sequence["Node"], first: int, language: Language) -> list["Node"]:
    """Those of ``above`` that end right before the row ``first`` and are documentation in ``language``."""
    taken: list[Node] = []
    for comment in reversed(above):
        text = (comment.text or b"").decode("utf-8", "replace")
        is_line = language in (GO, RUST) and text.startswith("///" if language is RUST else "//")
        is_block = not taken and language is not GO and _BLOCK.fullmatch(text)
        # JSDoc belongs to what comes next, and many leave a line free.
        is_near = first - rows(comment)[1] <= (2 if is_block and language is not RUST else 1)
        if comment.type in _BETWEEN or not is_near or not (is_line or is_block):
            break
        taken.append(comment)
        first = rows(comment)[0]
        if is_block:
            break
    return taken[::-1]


def _is_alone(comment: "Node", lines: Sequence[str]) -> bool:
    """Whether nothing but the comment is on its rows."""
    first, last = rows(comment)
    written = "\n".join(lines[first : last + 1]).strip()
    return written == (comment.text or b"").decode("utf-8", "replace").strip()


def _said(comment: "Node", language: Language) -> str:
    text = (comment.text or b"").decode("utf-8", "replace").rstrip("\n")
    if (block := _BLOCK.fullmatch(text)) is not None:
        return "\n".join(re.sub(r"^\s*\* ?", "", line) for line in block[1].splitlines()).strip()
    if language is GO and _DIRECTIVE.match(text):
        return ""
    return re.sub(r"^///? ?", "", text)


__all__ = ["documented_by_comments"]
