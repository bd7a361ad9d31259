"""Held-out code and prose: what perplexity is measured on, and nothing is calibrated on.

Code is ``pkg:NAME`` or a folder, as an index takes it. Prose is ``python:topics`` (the chapters of the Python language
reference that ``help()`` shows; every Python carries them), ``readme:NAME`` (the README of an installed distribution),
or a text file or a folder of them.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from random import Random

from slipstream import InputError
from slipstream.build.options import EvaluationOptions
from slipstream.build.stages import digest_of
from slipstream.ensemble.retrieval.walk import resolve_root, walk

_TELLING = 40
_CODE_SUFFIXES = (".py", ".go", ".java", ".rs", ".ts", ".tsx", ".js", ".jsx", ".c", ".h", ".cc", ".cpp", ".hpp")
_PROSE_SUFFIXES = (".md", ".rst", ".txt")


class NotHeldOut(InputError):
    """What is to be measured on is also calibrated on."""


class TooLittleText(InputError):
    """The evaluation sources hold less text than is to be measured on."""


@dataclass(frozen=True)
class Document:
    """A text and the name it goes by."""

    name: str
    text: str


@dataclass(frozen=True)
class HeldOut:
    """The documents of both kinds, each in the order it is read in."""

    code: tuple[Document, ...]
    prose: tuple[Document, ...]

    @property
    def digest(self) -> str:
        return digest_of([[document.name, document.text] for document in (*self.code, *self.prose)])


def held_out(options: EvaluationOptions, calibrated: Sequence[str], calibrated_texts: Iterable[str] = ()) -> HeldOut:
    """The documents that ``options`` name.

    Args:
        calibrated: the sources of calibration text.
        calibrated_texts: files or chunks of them. A document whose lines are mostly among theirs, a vendored copy for
            instance, is left out.

    Raises:
        NotHeldOut: a source is in ``calibrated`` too.
        TooLittleText: there are fewer characters than tokens wanted.
        SourceNotFound, InputError: a source names nothing.
    """
    shared = sorted({*options.code, *options.prose} & set(calibrated))
    if shared:
        raise NotHeldOut(
            f"{', '.join(shared)} is calibrated on and measured on",
            "name other sources in evaluation.code and evaluation.prose than in calibration.sources",
        )
    seen = {line for text in calibrated_texts for line in _telling_lines(text)}

    def unseen(documents: Iterable[Document]) -> tuple[Document, ...]:
        return tuple(document for document in documents if not _is_copy(document.text, seen))

    found = HeldOut(unseen(_code(options.code)), unseen(_prose(options.prose)))
    for kind, documents in (("code", found.code), ("prose", found.prose)):
        characters = sum(len(document.text) for document in documents)
        if characters < options.tokens:  # a token has one at least; what is short by less shows when it is cut
            raise TooLittleText(
                f"evaluation.{kind} holds {characters} characters; {options.tokens} tokens are to be measured",
                f"name more sources in evaluation.{kind}, or lower evaluation.tokens",
            )
    return found


def _is_copy(text: str, seen: AbstractSet[str]) -> bool:
    lines = _telling_lines(text)
    return 2 * len(lines & seen) > len(lines)


def _telling_lines(text: str) -> set[str]:
    """Those too long to be the same by chance."""
    return {line for line in map(str.strip, text.splitlines()) if len(line) > _TELLING}


def windows(
    documents: Sequence[Document], encode: Callable[[str], list[int]], tokens: int, window: int, kind: str
) -> list[list[int]]:
    """``tokens`` // ``window`` token sequences of ``window`` tokens, each from inside one document.

    Every document is cut from its beginning, and the cuts are drawn with a fixed seed: small files count as much as
    their length, and one long file is not all that is measured.

    Raises:
        TooLittleText: there are fewer.
    """
    wanted = tokens // window
    order = Random(7)  # noqa: S311  # repeatable, not secret
    shuffled = list(documents)
    order.shuffle(shuffled)
    cuts: list[list[int]] = []
    for document in shuffled:  # encoding everything would take longer than scoring what is drawn
        ids = encode(document.text)
        cuts += [ids[start : start + window] for start in range(0, len(ids) - window + 1, window)]
        if len(cuts) >= 8 * wanted:
            break
    if len(cuts) < wanted:
        raise TooLittleText(
            f"evaluation.{kind} holds {len(cuts) * window} tokens in pieces of {window}; {tokens} are to be measured",
            f"name more sources in evaluation.{kind}, or lower evaluation.tokens",
        )
    return order.sample(cuts, wanted)


def _code(sources: Sequence[str]) -> list[Document]:
    files = walk([resolve_root(source) for source in sources])
    read = ((file.path, file.absolute.read_bytes()) for file in files if file.path.endswith(_CODE_SUFFIXES))
    return [Document(path, text.decode("utf-8", errors="replace")) for path, text in read]


def _prose(sources: Sequence[str]) -> list[Document]:
    return [document for source in sources for document in _prose_of(source)]


def _prose_of(source: str) -> list[Document]:
    if source == "python:topics":
        from pydoc_data.topics import topics

        return [Document(f"{source}/{name}", text) for name, text in sorted(topics.items())]
    if source.startswith("readme:"):
        name = source.removeprefix("readme:")
        try:
            text = metadata(name).get_payload()  # type: ignore[attr-defined]
        except (PackageNotFoundError, ValueError):
            raise InputError(f"{source}: no distribution {name!r} is installed", f"pip install {name}") from None
        return [Document(source, str(text))]
    path = Path(source).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    texts = [file for file in files if file.suffix in _PROSE_SUFFIXES and file.is_file()]
    if not texts:
        raise InputError(
            f"evaluation.prose: {source} holds no text",
            f"name python:topics, readme:NAME, or a file or folder with {', '.join(_PROSE_SUFFIXES)}",
        )
    return [Document(str(file), file.read_text(encoding="utf-8", errors="replace")) for file in texts]


__all__ = ["Document", "HeldOut", "NotHeldOut", "TooLittleText", "held_out", "windows"]
