"""What each language calls its definitions, and which files are of which language."""

import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.languages import language_of
from tests.ensemble.retrieval.pieces import assert_faithful, chunks_of

PYTHON = "def f(): pass\nasync def g(): pass\nclass C: pass\ntype T = int\nif x:\n    def h(): pass\n"
JAVASCRIPT = """function add(a, b) { return a + b; }
const mul = (a, b) => a * b;
exports.sub = function (a, b) { return a - b; };
Foo.prototype.bar = function () {};
export class A { go() {} }
export default function* gen() {}
(function () {
  function inside() { return 1; }
})();
"""
TYPESCRIPT = """export interface Props { a: number }
export type Id = string;
export enum Color { Red }
export abstract class View<T> {}
namespace N { export function f(): void {} }
declare function ext(a: number): void;
export const pick = <T,>(value: T): T => value;
"""
GO = """package main
// Server serves.
type Server struct {
	port int
}
type (
	// ID names.
	ID   int
	Name = string
)
type Runner interface { Run() error }
func (s *Server) Run() error { return nil }
func (l List[K, V]) Push(k K) {}
func main() {}
"""
JAVA = """package a.b;
/** Doc. */
@Service
public class A<T> { int m() { return 1; } }
interface I { void r(); }
enum E { X }
record R(int a) {}
@interface An {}
"""
RUST = """use std::fmt;
/// A point.
#[derive(Debug)]
pub struct Point<T> { x: T }
impl<T> fmt::Display for Line<T> {}
pub trait Shape { fn area(&self) -> f64; }
pub type Pair = (i32, i32);
pub enum Kind { A }
union U { a: u8 }
mod elsewhere;
macro_rules! square { ($x:expr) => { $x * $x }; }
mod tests { fn works() {} }
fn free() {}
"""
C_SOURCE = """#include <stdio.h>
/* A node. */
struct node { struct node *next; };
typedef struct { int a; } pair_t;
typedef int (*callback)(void *, int);
enum color { RED };
union number { int i; };
#define SQUARE(x) ((x) * (x))
struct tm *first,
    *second;
#define LONG(x) \\
    do { \\
        x; \\
    } while (0)
static struct node *find(int (*f)(int)) { return 0; }
"""
CPP_SOURCE = """#include <vector>
template <typename T>
class Shape { T area() { return t; } };
enum class Color { Red };
using Boxes = std::vector<Box>;
namespace geo { int a; }
template <typename T>
T Shape<T>::twice() { return 2; }
Shape::~Shape() {}
bool Shape::operator==(const Shape& o) { return true; }
const std::string& name() { return s; }
"""
MARKDOWN_SOURCE = "---\ntitle: x\n---\nIntro.\n\n# Title\n\nText.\n\nOther\n=====\n\n```sh\n# no heading\n```\n"


@pytest.mark.parametrize(
    ("name", "text", "language", "expected"),
    [
        ("a.py", PYTHON, "python", "f g C T h"),
        ("a.js", JAVASCRIPT, "javascript", "add mul exports.sub Foo.prototype.bar A gen inside"),
        ("a.ts", TYPESCRIPT, "typescript", "Props Id Color View N ext pick"),
        ("a.tsx", "export const B = () => {\n  return <b>{a}</b>;\n};\n", "typescript", "B"),
        ("a.go", GO, "go", "Server ID Name Runner Server.Run List.Push main"),
        ("A.java", JAVA, "java", "A I E R An"),
        ("a.rs", RUST, "rust", "Point Line Shape Pair Kind U square tests free"),
        ("a.c", C_SOURCE, "c", "node pair_t callback color number LONG find"),
        ("a.cpp", CPP_SOURCE, "cpp", "Shape Color Boxes geo Shape.twice Shape.~Shape Shape.operator== name"),
        ("a.h", C_SOURCE, "c", "node find"),
        ("b.h", CPP_SOURCE, "cpp", "Shape geo"),
        ("c.h", "struct Box {\npublic :\n    int width() { return 1; }\n};\n", "cpp", "Box"),
        ("a.md", MARKDOWN_SOURCE, "markdown", "Title Other"),
    ],
)
def test_every_language_has_its_symbols(name: str, text: str, language: str, expected: str) -> None:
    chunks = chunks_of(name, text)
    assert_faithful(chunks, text)
    assert {chunk.language for chunk in chunks} == {language}
    symbols = {chunk.symbol for chunk in chunks}
    assert set(expected.split()) <= symbols
    assert not symbols & {"tm", "elsewhere", "SQUARE"}  # a type that is used, a file that is named, a macro of one line


@pytest.mark.parametrize(
    ("name", "opening", "method", "symbol"),
    [
        ("a.py", "class Big:\n", "    def {}(self):\n        pass\n", "Big.{}"),
        ("a.js", "export class Big {{\n", "  {}() {{ }}\n", "Big.{}"),
        ("a.ts", "class Big {{\n", "  {} = () => {{ }};\n", "Big.{}"),
        ("A.java", "class Big {{\n", "  @Override\n  void {}() {{ }}\n", "Big.{}"),
        ("a.rs", "impl Show for Big {{\n", "  /// doc\n  fn {}(&self) {{ }}\n", "Big.{}"),
        ("a.cpp", "namespace n {{\nclass Big {{\n public:\n", "  void {}() {{ }}\n", "n.Big.{}"),
    ],
)
def test_methods_of_a_big_class_are_qualified(name: str, opening: str, method: str, symbol: str) -> None:
    methods = [f"method_number_{number}" for number in range(80)]
    text = opening.format() + "".join(method.format(each) for each in methods)
    text += "" if name.endswith(".py") else "}\n" * opening.count("{{")
    chunks = chunks_of(name, text)
    assert_faithful(chunks, text)
    assert [chunk.symbol for chunk in chunks] == [symbol.format(each) for each in methods]


def test_markdown_sections_nest_by_level_and_small_ones_stay_whole() -> None:
    words = "Some words to fill the section with. " * 30 + "\n"
    install = "## Install\n\nshort\n\n### Linux\n\nshorter\n"
    text = f"# Guide\n\n{words}\n{install}\n## Use\n\n{words}\nOther\n-----\n\n{words}"
    chunks = chunks_of("README.md", text)
    assert_faithful(chunks, text)
    assert [(chunk.symbol, chunk.line_start) for chunk in chunks] == [
        ("Guide", 1),
        ("Guide > Install", 5),
        ("Guide > Use", 13),
        ("Guide > Other", 17),
    ]


@pytest.mark.parametrize(("path", "name"), [("A.PY", "python"), ("x/y.tsx", "typescript"), ("a.hpp", "cpp")])
def test_a_language_is_known_by_its_suffix(path: str, name: str) -> None:
    language = language_of(path)
    assert language is not None
    assert language.name == name


@pytest.mark.parametrize("path", ["Makefile", "a.txt", ".py", "a.lock", ""])
def test_what_is_no_source_has_no_language(path: str) -> None:
    assert language_of(path) is None


def test_the_grammars_are_imported_on_use() -> None:
    script = (
        "import sys, slipstream.ensemble.retrieval.chunker as c\n"
        "assert not [m for m in sys.modules if m.startswith('tree_sitter')]\n"
        "c.chunk_file('a.py', b'x = 1', 'r')\n"
        "print(sorted(m for m in sys.modules if m.startswith('tree_sitter_') and '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout.strip() == "['tree_sitter_python']"
