"""The words of the training set: what a chunk says about its symbol, and templates that ask for it and answer it.

The answers are meant to be a habit, not knowledge: one or two sentences that repeat what a context says, each closed
by the number of that context.
"""

import ast
import re
import textwrap
from dataclasses import dataclass
from random import Random
from typing import Literal

from slipstream.ensemble.retrieval.store import Chunk

Kind = Literal["does", "is", "says", "takes"]

_VERBS = frozenset(
    """abort accept add adjust allow append apply assert attach bind build calculate call check clear close collect
    compute configure connect construct control convert copy count create decode decorate define delete determine
    disable dispatch display dump echo edit emit enable encode ensure evaluate execute exit extract fetch filter
    find format generate get give handle implement include indicate initialize inject insert inspect invoke
    iterate join launch list load log make mark match measure merge modify mount normalize observe open override
    parse perform populate prepare print process prompt provide raise read receive register reload remove render
    replace represent reset resolve retrieve return run save schedule send serialize set show sort split start
    stop store strip test transform turn update use validate wait walk wrap write yield""".split()  # noqa: SIM905
)
_LINE_COMMENT = re.compile(r"(?:///?!?|#)\s?(.*)")
_MAX_WORDS = 28


@dataclass(frozen=True, slots=True)
class Described:
    """A chunk, and one phrase about its symbol.

    Attributes:
        phrase: goes behind "`symbol` does", as in "returns the URL" (does), behind "is" (is), or stands as a
            sentence (says) or as a list of parameters (takes).
        evidence: the words of the chunk that the phrase comes from; a shortened chunk has to keep them (`supports`).
        parameters: a function's, as a list in words; empty when it has none or many.
    """

    chunk: Chunk
    kind: Kind
    phrase: str
    evidence: str
    parameters: str = ""

    @property
    def symbol(self) -> str:
        return self.chunk.symbol

    @property
    def short_name(self) -> str:
        """The last part of a qualified name: what people ask for."""
        return self.chunk.symbol.rsplit(".", 1)[-1]


def describe(chunk: Chunk) -> Described | None:
    """What ``chunk`` says about its own symbol, or None where it says nothing that can be repeated."""
    if not chunk.symbol or len(chunk.symbol) > 60 or chunk.symbol.endswith("__"):  # every class has its __init__
        return None
    documentation = _python_docstring(chunk) if chunk.language == "python" else _leading_comment(chunk.text)
    parameters = _python_parameters(chunk) if chunk.language == "python" else ""
    if documentation:
        raw = _raw_sentence(documentation)
        sentence = clean_sentence(raw)
        return Described(chunk, *_phrase(sentence), evidence=raw, parameters=parameters) if sentence else None
    name = chunk.symbol.rsplit(".", 1)[-1]
    return Described(chunk, "takes", parameters, evidence=name, parameters=parameters) if parameters else None


def supports(text: str, described: Described) -> bool:
    """Whether ``text``, a part of the chunk, still holds the words behind the phrase."""
    return _words(described.evidence) in _words(text)


def _words(text: str) -> str:
    """Words alone: comment marks and line breaks inside a sentence do not count."""
    return " ".join(re.sub(r"[*/#]", " ", text).split())


def _raw_sentence(documentation: str) -> str:
    paragraph = " ".join(documentation.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[^.\s]{2})\.(?:\s|$)", paragraph)[0]


def clean_sentence(sentence: str) -> str:
    """A sentence without markup and final stop; empty when it is too short, too long or no prose."""
    sentence = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", sentence).replace("``", "`").rstrip(" .")
    words = sentence.split()
    prose = re.fullmatch(r"[^<>{}|\[\]*=]+", sentence) and sentence[0].isalpha() and not sentence.endswith(":")
    return sentence if prose and 3 <= len(words) <= _MAX_WORDS else ""


def _phrase(sentence: str) -> tuple[Kind, str]:
    first, _, rest = sentence.partition(" ")
    verb = first.lower()
    if verb in _VERBS:
        return "does", f"{third_person(verb)} {rest}"
    if any(third_person(base) == verb for base in _VERBS):
        return "does", f"{verb} {rest}"
    if verb in {"a", "an", "the"}:
        return "is", f"{verb} {rest}"
    return "says", sentence


def third_person(verb: str) -> str:
    """``return`` → ``returns``, ``apply`` → ``applies``, ``fetch`` → ``fetches``."""
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|o)$", verb) else "s")


def infinitive(phrase: str) -> str:
    """A "does" phrase as an infinitive: ``returns the URL`` → ``return the URL``."""
    verb, _, rest = phrase.partition(" ")
    return f"{next((base for base in _VERBS if third_person(base) == verb), verb)} {rest}"


def _python_node(chunk: Chunk) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None:
    try:
        tree = ast.parse(textwrap.dedent(chunk.text))
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return node if node.name == chunk.symbol.rsplit(".", 1)[-1] else None
    return None


def _python_docstring(chunk: Chunk) -> str:
    node = _python_node(chunk)
    return (ast.get_docstring(node) or "") if node else ""


def _python_parameters(chunk: Chunk) -> str:
    """```a` and `b` ``, for a function that takes one to four parameters."""
    node = _python_node(chunk)
    if node is None or isinstance(node, ast.ClassDef):
        return ""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    quoted = [f"`{name}`" for name in names if name not in {"self", "cls"}]
    if not 1 <= len(quoted) <= 4:
        return ""
    listed = " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
    returned = ast.unparse(node.returns) if node.returns else ""
    return f"{listed} and returns `{returned}`" if 0 < len(returned) <= 30 else listed


def _leading_comment(text: str) -> str:
    """A comment block at the very beginning of a chunk, in C's, Rust's and the shell's styles."""
    text = text.lstrip()
    if text.startswith("/*"):
        lines = text[2:].split("*/")[0].splitlines()
        return "\n".join(line.strip().lstrip("*!").strip() for line in lines)
    lines = []
    for line in text.splitlines():
        match = _LINE_COMMENT.fullmatch(line.strip())
        if match is None:
            break
        lines.append(match[1])
    return "\n".join(lines)


_Form = tuple[tuple[str, ...], tuple[str, ...]]
"""Questions, and the answers that fit every one of them."""

_WHAT = ("What does `{s}` do?", "What does {s} do?", "what does {s} do", "What is {s} used for?", "Explain `{s}`.",
         "How does {s} work?", "Tell me about {s}.", "Describe what {s} does.")  # fmt: skip
_WHERE = ("Where is {s} defined?", "Where is `{s}`?", "In which file is {s}?", "Where can I find {s}?",
          "Where is {s} defined, and what is it?")  # fmt: skip
_FORMS: dict[Kind, tuple[_Form, ...]] = {
    "does": (
        (_WHAT, ("`{s}` {phrase} [{n}].", "`{s}` in `{path}` {phrase} [{n}].")),
        (_WHERE, ("`{s}` is defined in `{path}` [{n}]. It {phrase} [{n}].",)),
        (("How do I {infinitive}?", "Which part {phrase}?", "Where does the code {infinitive}?",
          "What can {infinitive}?", "Is there something that {phrase}?", "how to {infinitive}"),
         ("`{s}` in `{path}` {phrase} [{n}].", "Use `{s}`: it {phrase} [{n}]. It is in `{path}` [{n}].")),
    ),
    "is": (
        (("What is `{s}`?", "What is {s}?", "What is {s} for?", "Explain {s}.", "what is {s}"),
         ("`{s}` is {phrase} [{n}].", "`{s}` in `{path}` is {phrase} [{n}].")),
        (_WHERE, ("`{s}` is defined in `{path}` [{n}]. It is {phrase} [{n}].",)),
        (("Is there {phrase}?", "I am looking for {phrase}. Where is it?"),
         ("`{s}` is {phrase} [{n}]. It is in `{path}` [{n}].",)),
    ),
    "says": (
        ((*_WHAT, "What is {s}?", "What is {s} for?"),
         ("The documentation of `{s}` says: {sentence} [{n}].", "`{s}` in `{path}`: {sentence} [{n}].")),
        (_WHERE, ("`{s}` is defined in `{path}` [{n}]. Its documentation says: {sentence} [{n}].",)),
    ),
    "takes": (
        (("What does {s} take?", "Which arguments does `{s}` have?", "How is {s} called?", "How do I call `{s}`?",
          "What do I pass to {s}?"),
         ("`{s}` takes {parameters} [{n}].", "`{s}` in `{path}` takes {parameters} [{n}].")),
        (_WHERE, ("`{s}` is defined in `{path}` [{n}]. It takes {parameters} [{n}].",)),
    ),
}  # fmt: skip
_WHERE_RU = ("Где определён `{s}`?", "Где находится {s}?", "В каком файле {s}?", "где найти {s}")
_FORMS_RU: dict[Literal["says", "takes"], tuple[_Form, ...]] = {
    "says": (
        (("Что делает `{s}`?", "Что делает {s}?", "Для чего нужен {s}?", "Объясни, что такое {s}.", "Как работает {s}?",
          "что делает {s}", "Расскажи про {s}."),
         ("В описании `{s}` сказано: «{sentence}» [{n}].", "`{s}` из файла `{path}`: «{sentence}» [{n}].")),
        (_WHERE_RU, ("`{s}` определён в файле `{path}` [{n}]. В описании сказано: «{sentence}» [{n}].",)),
    ),
    "takes": (
        (("Какие аргументы принимает {s}?", "Как вызвать `{s}`?", "Что передать в {s}?"),
         ("`{s}` принимает аргументы {names} [{n}].", "`{s}` из файла `{path}` принимает аргументы {names} [{n}].")),
        (_WHERE_RU, ("`{s}` определён в файле `{path}` [{n}]. Аргументы: {names} [{n}].",)),
    ),
}  # fmt: skip
_SHORT_NAME_SHARE = 0.5
_TAKES_SHARE = 0.2
"""Share of questions about a documented function that ask how it is called."""


def ask_and_answer(described: Described, number: int, random: Random, *, russian: bool) -> tuple[str, str]:
    """A question about ``described`` and the answer that cites it as context ``number``."""
    kind = "takes" if described.parameters and random.random() < _TAKES_SHARE else described.kind
    name = described.short_name if random.random() < _SHORT_NAME_SHARE else described.symbol
    forms = _FORMS_RU["takes" if kind == "takes" else "says"] if russian else _FORMS[kind]
    questions, answers = random.choice(forms)
    words = _words_of(described, name, number)
    return random.choice(questions).format(**words), random.choice(answers).format(**words)


def ask_and_answer_both(one: Described, other: Described, numbers: tuple[int, int], random: Random) -> tuple[str, str]:
    """A question about two symbols, answered in two sentences that cite their own contexts."""
    questions = ("What do `{0}` and `{1}` do?", "What are {0} and {1} for?", "Explain {0} and {1}.")
    question = random.choice(questions).format(one.symbol, other.symbol)
    sentences = (
        _FORMS[described.kind][0][1][0].format(**_words_of(described, described.symbol, number))
        for described, number in zip((one, other), numbers, strict=True)
    )
    return question, " ".join(sentences)


def _words_of(described: Described, name: str, number: int) -> dict[str, str | int]:
    """What the templates may name."""
    phrase, parameters = described.phrase, described.parameters
    return {
        "s": name, "n": number, "path": described.chunk.path, "phrase": phrase, "infinitive": infinitive(phrase),
        "sentence": f"{phrase[0].upper()}{phrase[1:]}", "parameters": parameters,
        "names": parameters.split(" and returns ")[0].replace(" and ", " и "),
    }  # fmt: skip


__all__ = [
    "Described", "ask_and_answer", "ask_and_answer_both", "clean_sentence", "describe", "infinitive",
    "supports", "third_person",
]  # fmt: skip
