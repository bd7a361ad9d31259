"""What a file defines: functions, methods, classes and their like, with their lines and qualified names.

Nothing here calls itself: source may be nested as deep as its author (or a fuzzer) likes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipstream.ensemble.retrieval.languages import BODIES, MARKDOWN, Language

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_DEPTH = 8
"""Definitions nested deeper than this belong to the one around them: real code ends at about 5."""

_FUNCTIONS = frozenset(
    "arrow_function function_expression function generator_function class class_expression".split()  # noqa: SIM905
)
_NAME_FIELDS = ("name", "declarator", "left", "key", "property", "type")
_TEMPLATE_ARGUMENTS = re.compile(r"<[^<>]*>(?=::|$)")
_RECEIVER_TYPE = re.compile(r"(\w+) ?(?:\[[^\]]*\])? ?,? ?\)$")
_MAX_NAME = 120  # characters; a Markdown heading can be a paragraph


@dataclass(slots=True)
class Definition:
    """Rows are 0-based and inclusive, and take in decorators and leading comments."""

    first: int
    last: int
    symbol: str
    depth: int
    separator: str = "."
    children: list["Definition"] = field(default_factory=list)

    def add(self, first: int, last: int, name: str) -> "Definition":
        symbol = f"{self.symbol}{self.separator}{name}" if self.symbol else name
        child = Definition(first, last, symbol, self.depth + 1, self.separator)
        self.children.append(child)
        return child


def rows(node: "Node") -> tuple[int, int]:
    """First and last row that hold a part of ``node``; one that ends with a line feed does not reach the next row."""
    first = node.start_point.row
    last, column = node.end_point
    return first, (last - 1 if column == 0 and last > first else last)


def outline(
    root: "Node", lines: Sequence[str], cumulative: Sequence[int], budget: int, language: Language
) -> Definition:
    """The definitions of a file, below one that stands for the file itself.

    A definition that fits in ``budget`` is not looked into. ``cumulative[i]`` is the size of the rows before ``i``.
    """
    top = Definition(0, len(lines) - 1, "", 0)
    if language is MARKDOWN:
        _sections(root, top, cumulative, budget)
        return top
    work = [(root, top)]
    while work:
        node, parent = work.pop()
        for child, first, last in _with_leading(node, language):
            found = _definitions_of(child, language)
            name = qualified_name(found) if found is not None else ""
            if found is None or not name:
                if last > first or child.type in BODIES:
                    work.append((child, parent))
                continue
            first = _over_comments(lines, first, parent.first, language)
            definition = parent.add(first, last, name)
            if cumulative[last + 1] - cumulative[first] > budget and definition.depth < MAX_DEPTH:
                work.append((found, definition))
    return top


def _with_leading(node: "Node", language: Language) -> Iterator[tuple["Node", int, int]]:
    """The children of ``node`` with their rows, each taking in the comments and attributes right above it."""
    above: tuple[int, int] | None = None  # rows of the comments just passed
    previous = -1
    for child in node.named_children:
        first, last = rows(child)
        if child.type in language.leading:
            if first > previous:  # not a remark behind the code of its own line
                adjacent = above is not None and first <= above[1] + 1
                above = (above[0] if above and adjacent else first, last)
        else:
            start = above[0] if above is not None and first <= above[1] + 1 else first
            above = None
            yield child, start, last
        previous = last


def _definitions_of(node: "Node", language: Language) -> "Node | None":
    """The one definition that ``node`` is, or is wrapped around; None if there is none, or several."""
    found: list[Node] = []
    work = [node]
    while work:
        current = work.pop()
        kind = current.type
        if kind in language.symbols:
            if _is_whole(current, language):
                found.append(current)
        elif kind in language.valued and _binds_function(current):
            found.append(current)
        elif kind in language.wrappers:
            work.extend(current.named_children)
    return found[0] if len(found) == 1 else None


def _is_whole(node: "Node", language: Language) -> bool:
    if node.type == "preproc_function_def":  # a header may hold thousands of one line
        return bool(node.end_point.row > node.start_point.row + 1)
    return node.type not in language.bodied or node.child_by_field_name("body") is not None


def _binds_function(node: "Node") -> bool:
    value = node.child_by_field_name("value") or node.child_by_field_name("right")
    if value is None or value.type not in _FUNCTIONS:
        return False
    # `{ onClick: () => x }` is data; a function of several lines in an object literal is a method.
    return node.type != "pair" or value.end_point.row > value.start_point.row


def qualified_name(node: "Node") -> str:
    """The name that ``node`` defines, empty if it has none; a Go method and a C++ member carry their type's."""
    named = node
    for _ in range(MAX_DEPTH):  # int (*(*f)(int))[3] needs four steps
        inner = _name_node(named)
        if inner is None:
            break
        named = inner
    if named is node or named.text is None:
        return ""
    name = " ".join(named.text.decode("utf-8", "replace").split())
    name = _TEMPLATE_ARGUMENTS.sub("", name).replace("::", ".").strip("\"'.")
    if owner := _receiver(node):
        name = f"{owner}.{name}"
    return name[:_MAX_NAME]


def _receiver(node: "Node") -> str:
    """The type that a Go method belongs to, empty if it names none within reason."""
    receiver = node.child_by_field_name("receiver")
    if receiver is None or receiver.text is None:
        return ""
    text = " ".join(receiver.text.decode("utf-8", "replace").split())
    owner = _RECEIVER_TYPE.search(text[-2 * _MAX_NAME :])  # its time grows with the square of the length
    return owner[1] if owner else ""


def _name_node(node: "Node") -> "Node | None":
    if node.type in ("qualified_identifier", "template_function", "member_expression", "scoped_type_identifier"):
        return None
    for name in _NAME_FIELDS:
        if (child := node.child_by_field_name(name)) is not None:
            return child
    if node.type.endswith("_declarator"):  # (f) and &f have no field for what they hold
        return node.named_children[-1] if node.named_children else None
    return None


def _over_comments(lines: Sequence[str], first: int, floor: int, language: Language) -> int:
    """The row where the comment lines right above ``first`` begin.

    The grammars hang a comment between a class's first line and its first method outside of the class's body.
    """
    if language.line_comment:
        while first - 1 > floor and lines[first - 1].lstrip().startswith(language.line_comment):
            first -= 1
    return first


def _sections(root: "Node", top: Definition, cumulative: Sequence[int], budget: int) -> None:
    """Markdown's headings; one reaches to the next of its level or above.

    The grammar nests sections too, but not those below an underlined heading.
    """
    top.separator = " > "
    open_sections = [(0, top)]
    for heading, level in _headings(root):
        content = heading.child_by_field_name("heading_content")
        title = " ".join((content.text or b"").decode("utf-8", "replace").split()) if content is not None else ""
        first = heading.start_point.row
        while open_sections[-1][0] >= level:
            open_sections.pop()[1].last = first - 1
        section = open_sections[-1][1].add(first, top.last, title[:_MAX_NAME] or "#" * level)
        open_sections.append((level, section))
    _close_small(top, cumulative, budget)


def _headings(root: "Node") -> list[tuple["Node", int]]:
    found = []
    work = [root]
    while work:
        node = work.pop()
        if node.type in MARKDOWN.symbols:
            marker = next((child.type for child in node.children if re.search(r"_h\d_", child.type)), "_h1_")
            found.append((node, int(re.sub(r"\D", "", marker))))
        elif node.type in ("document", "section"):
            work.extend(node.named_children)
    return sorted(found, key=lambda pair: pair[0].start_byte)


def _close_small(top: Definition, cumulative: Sequence[int], budget: int) -> None:
    """A section that fits in ``budget`` is one piece."""
    work = list(top.children)
    while work:
        section = work.pop()
        if cumulative[section.last + 1] - cumulative[section.first] <= budget:
            section.children.clear()
        work.extend(section.children)
