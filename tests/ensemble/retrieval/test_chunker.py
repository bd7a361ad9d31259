"""What chunks promise: nothing lost, exact lines, good names, for whatever a repository holds."""

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.ensemble.retrieval import languages
from slipstream.ensemble.retrieval.chunker import BUDGET, chunk_file, embedded_text
from slipstream.ensemble.retrieval.languages import LANGUAGES
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import resolve_root, walk
from tests.ensemble.retrieval.pieces import assert_faithful, chunks_of, symbols_of

NAMES = [f"source{language.suffixes[0]}" for language in LANGUAGES] + ["source.unknown"]


def named(chunks: list[Chunk], symbol: str) -> list[Chunk]:
    found = [chunk for chunk in chunks if chunk.symbol == symbol]
    assert found, f"{symbol} is not among {[chunk.symbol for chunk in chunks]}"
    return found


def ink(text: str) -> int:
    return len("".join(text.split()))


def filler(lines: int, indent: str = "    ", end: str = "") -> str:
    """Statements, enough of them to make a definition big."""
    return "".join(f"{indent}value_{number} = compute({number}){end}\n" for number in range(lines))


# What repositories really hold


@pytest.mark.parametrize("data", [b"", b"\n\n", b" \t\r\n", b"\xef\xbb\xbf"])
def test_a_file_with_nothing_in_it_has_no_chunks(data: bytes) -> None:
    assert chunk_file("a.py", data, "repo") == []


def test_a_syntax_error_costs_no_line_and_not_its_neighbours() -> None:
    text = "def good():\n    return 1\n\ndef broken(:\n    retrun ((1\n\nclass Fine:\n    def method(self): pass\n"
    chunks = chunks_of("a.py", text)
    assert_faithful(chunks, text)
    assert named(chunks, "good")[0].text == "def good():\n    return 1"


def test_latin_1_is_read_where_utf_8_fails() -> None:
    (chunk,) = chunk_file("a.py", "def straße():\n    return 'é'\n".encode("latin-1"), "repo")
    assert chunk.text == "def straße():\n    return 'é'"
    assert chunk.symbol == "straße"


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    (chunk,) = chunk_file("a.py", "\ufeffdef привет(): pass\n".encode(), "repo")
    assert (chunk.symbol, chunk.text) == ("привет", "def привет(): pass")


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_endings_change_no_line_number_and_no_digest(ending: str) -> None:
    text = "import a\n\n\ndef f():\n    return 1\n\n\nclass C:\n    x = 1\n"
    assert chunks_of("a.py", text.replace("\n", ending)) == chunks_of("a.py", text)


def test_a_form_feed_or_a_line_separator_ends_no_line() -> None:
    chunks = chunks_of("a.py", "\x0cdef f():\n    return '\u2028\x0b'\n\ndef g(): pass\n")
    assert [(chunk.symbol, chunk.line_start, chunk.line_end) for chunk in chunks] == [("f", 1, 2), ("g", 4, 4)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + ")" * 10_000,
        "(\n" * 10_000 + ")\n" * 10_000,
        "{[(" * 20_000,
        "class A {\n" * 5_000 + "}\n" * 5_000,
        "".join(" " * depth + "if x:\n" for depth in range(500)),
        "> " * 5_000,
    ],
    ids=["parentheses", "parentheses-on-lines", "open", "classes", "ifs", "quotes"],
)
def test_deep_nesting_is_only_source(name: str, text: str) -> None:
    assert_faithful(chunks_of(name, text), text)


@pytest.mark.parametrize("length", [BUDGET + 1, 2 * BUDGET + 15, 1_500 * BUDGET + 1])
def test_a_line_without_end_is_cut_into_even_pieces(length: int) -> None:
    """A short one could be taken for the whole line."""
    line = ("0123456789" * (length // 10 + 1))[:length]
    chunks = chunk_file("a.txt", f"first\n{line}\nlast\n".encode(), "r")[1:-1]
    assert "".join(chunk.text for chunk in chunks) == line
    assert {(chunk.line_start, chunk.line_end) for chunk in chunks} == {(2, 2)}
    sizes = [len(chunk.text) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= BUDGET


@pytest.mark.parametrize(("name", "piece"), [("a.py", "\\\n"), ("a.rs", 'r"'), ("a.cpp", "a<")])
def test_source_that_takes_its_parser_minutes_is_cut_without_it(
    name: str, piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "MAX_PARSE_S", 0.2)
    text = piece * 300_000
    started = time.process_time()
    chunks = chunks_of(name, text)
    assert time.process_time() - started < 5
    assert_faithful(chunks, text)
    assert {chunk.symbol for chunk in chunks} == {""}


def test_a_line_without_end_is_cut_hard() -> None:
    text = "x = 1\ny = '" + "ab " * 100_000 + "'\nz = 3\n"
    chunks = chunks_of("a.py", text)
    assert_faithful(chunks, text)
    parts = [chunk for chunk in chunks if (chunk.line_start, chunk.line_end) == (2, 2)]
    assert "".join(part.text for part in parts) == text.split("\n")[1]
    assert max(len(chunk.text) for chunk in chunks) <= BUDGET


def test_thousands_of_definitions_on_one_line_do_not_repeat_the_line() -> None:
    text = "function f(){}" * 5_000
    assert sum(len(chunk.text) for chunk in chunks_of("a.js", text)) <= len(text)


def test_an_unknown_language_is_cut_at_blank_lines() -> None:
    paragraph = "".join(f"line {number} of some prose that goes on\n" for number in range(30))
    chunks = chunks_of("notes.txt", f"{paragraph}\n{paragraph}\n{paragraph}")
    assert [(chunk.line_start, chunk.line_end) for chunk in chunks] == [(1, 30), (32, 61), (63, 92)]
    assert {(chunk.language, chunk.symbol) for chunk in chunks} == {("text", "")}


# Properties


@given(st.text(alphabet="ab1 \t\n\r(){}[]<>:;,.'\"=+*&#@/\\`|é\x00\x0c", max_size=400), st.sampled_from(NAMES))
@settings(max_examples=300, deadline=None)
def test_any_text_is_covered_in_any_language(text: str, name: str) -> None:
    chunks = chunks_of(name, text)
    assert_faithful(chunks, text.replace("\r\n", "\n").replace("\r", "\n"))
    assert chunks == chunks_of(name, text)


@given(st.binary(max_size=400), st.sampled_from(NAMES))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_chunked_without_an_exception(data: bytes, name: str) -> None:
    for chunk in chunk_file(name, data, "repo"):
        assert chunk.text.encode()


def test_every_line_of_two_real_packages_is_in_a_chunk_within_the_budget() -> None:
    files = list(walk([resolve_root("pkg:fastapi"), resolve_root("pkg:starlette")]))
    assert len(files) > 50
    for file in files:
        data = file.absolute.read_bytes()
        chunks = chunk_file(file.path, data, file.repo)
        assert_faithful(chunks, data.decode().replace("\r\n", "\n"))
        assert max((ink(chunk.text) for chunk in chunks), default=0) <= BUDGET * 1.05
        assert len({(chunk.line_start, chunk.symbol, chunk.text) for chunk in chunks}) == len(chunks)


def test_chunking_hides_behind_embedding() -> None:
    """The default embedder takes some 1,000 lines a second; a loaded machine must still be well above it."""
    files = [(file.path, file.absolute.read_bytes()) for file in walk([resolve_root("pkg:fastapi")])]
    started = time.process_time()
    for path, data in files:
        chunk_file(path, data, "repo")
    lines = sum(data.count(b"\n") for _, data in files)
    assert lines / (time.process_time() - started) > 20_000


def test_the_digest_is_that_of_the_embedded_text() -> None:
    (chunk,) = chunks_of("pkg/a.py", "class C:\n    x = 1\n")
    assert embedded_text(chunk) == "C\nclass C \n    x   1"
    assert chunk.digest == hashlib.sha256(embedded_text(chunk).encode()).hexdigest()
    (moved,) = chunks_of("pkg/b.py", "class C:\n    x = 1\n")
    assert moved.digest == chunk.digest  # a file that moves keeps its vectors


@pytest.mark.parametrize(
    ("between", "empty"),
    [("", 0), ("\n", 1), ("\n\n\n", 3), ("\n  \n", 1), ("  \n\n", 0)],
)
def test_a_chunk_knows_the_empty_lines_behind_it(between: str, empty: int) -> None:
    """White space is no empty line: a context that fills the gap holds the lines of the file, exactly."""
    chunks = chunks_of("a.py", f"def f():\n    return compute(1)\n{between}def g():\n    return compute(2)\n")
    assert [chunk.empty_after for chunk in chunks] == [empty, 0]


# How definitions become chunks


def test_a_definition_that_fits_is_one_chunk_and_the_rest_another() -> None:
    text = "import a\nimport b\n\nLIMIT = compute(a, b)\n\ndef f():\n    return 1\n\nclass C:\n    def m(self): pass\n"
    chunks = chunks_of("a.py", text)
    assert [(chunk.symbol, chunk.line_start, chunk.line_end) for chunk in chunks] == [
        ("", 1, 4),
        ("f", 6, 7),
        ("C", 9, 10),
    ]


def test_decorators_and_the_comments_right_above_belong_to_a_definition() -> None:
    text = (
        "# about nothing, with a blank line below\n\nx = some(thing)  # a remark\n# about f\n"
        "@cache\n@other(\n    1\n)\ndef f():\n    pass\n"
    )
    chunks = chunks_of("a.py", text)
    assert [(chunk.symbol, chunk.line_start) for chunk in chunks] == [("", 1), ("f", 4)]


@pytest.mark.parametrize(
    ("name", "text", "line_start"),
    [
        ("a.py", "# about nothing at all\n\n# about f\ndef f(): pass\n", 3),
        ("a.py", "# about nothing at all\n\ndef f(): pass\n", 3),
        ("a.py", "if some_condition(of, it):\n    # about f\n    def f(): pass\n", 2),
        ("a.c", "/* about\n * nothing, really */\n\n/* about\n\n * f */\nint f(void) { return 1; }\n", 4),
        ("a.c", "int nothing = 0;  /* about\n nothing */\nint f(void) { return 1; }\n", 3),
        ("a.rs", "use a::b::c::d::e;\n/// about f\n#[inline]\nfn f() {}\n", 2),
        ("a.ts", "import { a, b, c } from 'b';\n// about f\n@Dec()\nexport class f {}\n", 2),
        ("A.java", "import a.b.c.d;\n/** About f. */\n@Service\nclass f {}\n", 2),
    ],
)
def test_a_definition_starts_with_the_comments_that_touch_it(name: str, text: str, line_start: int) -> None:
    chunks = chunks_of(name, text)
    assert_faithful(chunks, text)
    assert [chunk.line_start for chunk in named(chunks, "f")] == [line_start]


def test_a_big_class_is_a_header_and_its_methods() -> None:
    header = f'@final\nclass Big(Base):\n    """{"Words. " * 20}"""\n\n    limit = 3\n'
    methods = "".join(f"\n    def method_{number}(self):\n{filler(12, ' ' * 8)}" for number in range(5))
    chunks = chunks_of("a.py", header + methods)
    assert [chunk.symbol for chunk in chunks] == ["Big", *(f"Big.method_{number}" for number in range(5))]
    assert chunks[0].text == header.rstrip("\n")


def test_a_bare_class_line_stays_with_the_first_method() -> None:
    text = f"class Big:\n    def first(self):\n{filler(30, ' ' * 8)}\n    def second(self):\n{filler(40, ' ' * 8)}"
    chunks = chunks_of("a.py", text)
    assert [(chunk.symbol, chunk.line_start) for chunk in chunks] == [("Big.first", 1), ("Big.second", 34)]


def test_a_big_function_is_split_between_statements_not_within_one() -> None:
    statement = "    total += compute(\n        first_argument,\n        second_argument,\n    )\n"
    text = "def big(total):\n" + statement * 60
    chunks = chunks_of("a.py", text)
    assert len(chunks) > 2
    assert {chunk.symbol for chunk in chunks} == {"big"}
    assert all(chunk.text.startswith("    total +=") for chunk in chunks[1:])
    sizes = [ink(chunk.text) for chunk in chunks]
    assert min(sizes) > BUDGET // 3


def test_a_split_falls_where_the_syntax_is_shallowest() -> None:
    block = "    if ready:\n" + filler(14, " " * 8)
    chunks = chunks_of("a.py", "def big(ready):\n" + block * 6)
    assert all(chunk.text.startswith("    if ready:") for chunk in chunks[1:])


def test_a_function_just_over_the_budget_is_halved_not_crumbled() -> None:
    text = f"def big():\n{filler(75)}"
    assert BUDGET < ink(text) < BUDGET * 1.5
    first, second = (ink(chunk.text) for chunk in chunks_of("a.py", text))
    assert abs(first - second) < BUDGET // 10


def test_a_long_signature_is_parted_from_its_body() -> None:
    parameters = "".join(f"    parameter_number_{number}: Annotated[int, Doc('words')],\n" for number in range(15))
    text = f"def big(\n{parameters}):\n    'What it does.'\n{filler(40)}"
    assert chunks_of("a.py", text)[1].text.startswith("    'What it does.'")


def test_a_split_falls_on_no_line_that_ends_what_came_before() -> None:
    items = "".join(f"    key_{number}: compute({number}),\n" for number in range(40))
    text = f"function big() {{\n  return merge({{\n{items}  }}, other({{\n{items}  }}));\n}}\n"
    chunks = chunks_of("a.js", text)
    assert len(chunks) == 2
    assert chunks[1].text.startswith("    key_")


def test_a_split_does_not_part_a_comment_from_what_it_is_about() -> None:
    text = "def big():\n" + "".join(f"    # step {step}\n    # of many\n    run({step})\n" for step in range(100))
    assert all(chunk.text.startswith("    # step") for chunk in chunks_of("a.py", text)[1:])


def test_a_big_string_is_cut_where_it_must_be() -> None:
    text = 'def f():\n    return """\n' + "words and words and words\n" * 200 + '"""\n'
    chunks = chunks_of("a.py", text)
    assert_faithful(chunks, text)
    assert {chunk.symbol for chunk in chunks} == {"f"}


def test_a_function_within_a_big_function_keeps_its_name() -> None:
    text = f"def outer():\n{filler(40)}\n    def inner():\n{filler(30, ' ' * 8)}\n    return register(inner, outer)\n"
    assert symbols_of("a.py", text) == ["outer", "outer.inner", "outer"]


def test_a_function_in_a_literal_is_a_symbol_if_it_has_lines_of_its_own() -> None:
    short = "".join(f"  key_{number}: () => compute({number}),\n" for number in range(60))
    long = f"  big: function () {{\n{filler(20)}  }},\n"
    assert set(symbols_of("a.js", f"module.exports = {{\n{short}{long}}};\n")) == {"", "big"}


def test_a_closing_brace_goes_with_what_it_closes() -> None:
    method = "\n    void method() {\n" + filler(35, " " * 8, ";") + "    }\n"
    text = "/** A long enough story about the class, so that its header stands alone. It is told at length. */\n"
    text += "class Big {\n    int field;\n" + method * 2 + "}\n"
    chunks = chunks_of("Big.java", text)
    assert [chunk.symbol for chunk in chunks] == ["Big", "Big.method", "Big.method"]
    assert chunks[-1].text.endswith("    }\n}")


def test_small_statements_of_a_module_share_windows() -> None:
    text = "".join(f"CONSTANT_{number} = compute_something({number})\n" for number in range(100))
    chunks = chunks_of("a.py", text)
    assert_faithful(chunks, text)
    assert len(chunks) == 3
