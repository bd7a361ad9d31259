"""The languages that are indexed: which files they own, which grammar reads them, which nodes are symbols.

Node names are those of the tree-sitter grammars (their ``node-types.json``). A grammar's wheel is imported when the
first file of its language is parsed.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath
from time import thread_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tree_sitter

MAX_PARSE_S, MAX_PARSE_S_PER_MB = 2.0, 2.0
"""Processor time for one file; the slowest of 1,000 real ones between 60 kB and 1 MB took 0.35 s, and C++
headers read as C, which are errors to the grammar, 0.8 s a megabyte."""
_READ_BYTES = 65_536

_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})


@dataclass(frozen=True, slots=True)
class Language:
    """How one language is read.

    Attributes:
        name: what a chunk's ``language`` says.
        suffixes: file name endings, lower case.
        grammar: module of the grammar's wheel and the function in it that gives the grammar.
        symbols: node types that are definitions.
        bodied: those of ``symbols`` that define only where they have a body (``struct tm *now`` names a type).
        valued: node types that are a definition when what they bind is a function or a class (``const f = () => 1``).
        wrappers: node types that stand around a definition and belong to it (decorators, ``export``, ``template<>``).
        leading: node types that belong to the definition right below them.
        line_comment: what a line starts with that is nothing but a comment; empty if the language has no such line.
    """

    name: str
    suffixes: tuple[str, ...]
    grammar: tuple[str, str]
    symbols: frozenset[str]
    bodied: frozenset[str] = frozenset()
    valued: frozenset[str] = frozenset()
    wrappers: frozenset[str] = frozenset()
    leading: frozenset[str] = field(default=_COMMENTS)
    line_comment: str = "//"

    def parse(self, source: bytes) -> "tree_sitter.Tree | None":
        """The syntax tree of UTF-8 ``source``, in which a syntax error is an ``ERROR`` node; None if it takes too long.

        Some input makes a grammar's scanner quadratic: 400,000 lines of a lone backslash hold Python's for minutes.
        """
        import tree_sitter

        give_up = thread_time() + MAX_PARSE_S + MAX_PARSE_S_PER_MB * len(source) / 1e6
        # A parser of its own per call: one is 2 µs to make, and it must not be shared between threads. Only a parser
        # that reads through a callback can be stopped.
        parser = tree_sitter.Parser(_grammar(*self.grammar))
        try:
            return parser.parse(
                lambda offset, _: source[offset : offset + _READ_BYTES],
                progress_callback=lambda _offset, _has_error: thread_time() > give_up,
            )
        except ValueError:
            return None


@cache
def _grammar(module: str, function: str) -> "tree_sitter.Language":
    import tree_sitter

    return tree_sitter.Language(getattr(import_module(module), function)())


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BODIES = _names(
    """block statement_block compound_statement class_body declaration_list field_declaration_list enum_body
    interface_body constructor_body enumerator_list"""
)
"""Node types that hold what stands between a definition's braces, or below its colon."""

PYTHON = Language(
    name="python",
    suffixes=(".py", ".pyi", ".pyw"),
    grammar=("tree_sitter_python", "language"),
    symbols=_names("function_definition class_definition type_alias_statement"),
    wrappers=_names("decorated_definition"),
    line_comment="#",
)

_ECMA_SYMBOLS = "function_declaration generator_function_declaration class_declaration method_definition"
_ECMA_VALUED = "variable_declarator assignment_expression pair field_definition public_field_definition"
_ECMA_WRAPPERS = "export_statement lexical_declaration variable_declaration expression_statement ambient_declaration"
_TYPESCRIPT_SYMBOLS = """interface_declaration type_alias_declaration enum_declaration abstract_class_declaration
    internal_module module function_signature abstract_method_signature"""

JAVASCRIPT = Language(
    name="javascript",
    suffixes=(".js", ".jsx", ".mjs", ".cjs"),
    grammar=("tree_sitter_javascript", "language"),
    symbols=_names(_ECMA_SYMBOLS),
    valued=_names(_ECMA_VALUED),
    wrappers=_names(_ECMA_WRAPPERS),
    leading=_COMMENTS | {"decorator"},
)

TYPESCRIPT = Language(
    name="typescript",
    suffixes=(".ts", ".mts", ".cts"),
    grammar=("tree_sitter_typescript", "language_typescript"),
    symbols=_names(_ECMA_SYMBOLS + " " + _TYPESCRIPT_SYMBOLS),
    valued=_names(_ECMA_VALUED),
    wrappers=_names(_ECMA_WRAPPERS),
    leading=_COMMENTS | {"decorator"},
)

TSX = Language(
    name="typescript",
    suffixes=(".tsx",),
    grammar=("tree_sitter_typescript", "language_tsx"),
    symbols=TYPESCRIPT.symbols,
    valued=TYPESCRIPT.valued,
    wrappers=TYPESCRIPT.wrappers,
    leading=TYPESCRIPT.leading,
)

GO = Language(
    name="go",
    suffixes=(".go",),
    grammar=("tree_sitter_go", "language"),
    symbols=_names("function_declaration method_declaration type_spec type_alias"),
    wrappers=_names("type_declaration"),
)

JAVA = Language(
    name="java",
    suffixes=(".java",),
    grammar=("tree_sitter_java", "language"),
    symbols=_names(
        """class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration
        method_declaration constructor_declaration compact_constructor_declaration"""
    ),
)

RUST = Language(
    name="rust",
    suffixes=(".rs",),
    grammar=("tree_sitter_rust", "language"),
    symbols=_names(
        """function_item function_signature_item struct_item enum_item union_item trait_item impl_item type_item
        mod_item macro_definition"""
    ),
    bodied=_names("mod_item"),
    leading=_COMMENTS | {"attribute_item"},
)

_C_SYMBOLS = """function_definition struct_specifier union_specifier enum_specifier type_definition
    preproc_function_def"""
_C_BODIED = "struct_specifier union_specifier enum_specifier class_specifier"

C = Language(
    name="c",
    suffixes=(".c", ".h"),
    grammar=("tree_sitter_c", "language"),
    symbols=_names(_C_SYMBOLS),
    bodied=_names(_C_BODIED),
)

CPP = Language(
    name="cpp",
    suffixes=(".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx", ".ipp", ".inl", ".cu", ".cuh"),
    grammar=("tree_sitter_cpp", "language"),
    symbols=_names(_C_SYMBOLS + " class_specifier namespace_definition alias_declaration concept_definition"),
    bodied=_names(_C_BODIED),
    wrappers=_names("template_declaration linkage_specification"),
)

MARKDOWN = Language(
    name="markdown",
    suffixes=(".md", ".markdown", ".mdx"),
    grammar=("tree_sitter_markdown", "language"),
    symbols=_names("atx_heading setext_heading"),
    leading=frozenset(),
    line_comment="",
)

LANGUAGES = (PYTHON, JAVASCRIPT, TYPESCRIPT, TSX, GO, JAVA, RUST, C, CPP, MARKDOWN)
_BY_SUFFIX = {suffix: language for language in LANGUAGES for suffix in language.suffixes}


def language_of(path: str) -> Language | None:
    """The language of the file called ``path``, by its suffix; None for one that is not indexed."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())
