"""The training set: a sentence that documents a definition, and the definition without it.

Whoever wrote the sentence says in words what the code does, which is what a question does that the code answers. (The
idea is CodeSearchNet's: Husain et al., 2019, "CodeSearchNet Challenge: Evaluating the State of Semantic Code Search".)
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from random import Random

from slipstream import InputError
from slipstream.build.training.embedder.held_out import HeldOut
from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.evaluation.docstrings import Candidate, blanked, candidates, decoded
from slipstream.ensemble.retrieval.roots import Root
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import SourceFile, walk

_LARGEST_BYTES = 300_000
"""Of a file: larger ones are tables and what programs wrote."""
# Tests and examples document what they test; built files are copies of their sources.
_ASIDE = re.compile(
    r"(?:^|/)(?:tests?|testing|testdata|spec|__tests__|examples?|benchmarks?|docs?|locales?|i18n|build|dist|umd|cjs|esm"
    r"|_?vendor(?:ed)?|third_?party)/|(?:^|/)(?:test_[^/]*|conftest)\.py$|(?:_test|_pb2)\.\w+$|\.(?:d\.ts|min\.js)$"
)


class NothingToLearnFrom(InputError):
    """The sources document too little."""


@dataclass(frozen=True, slots=True)
class Pair:
    """``text`` is the chunk of ``symbol``; ``package`` the source it came from."""

    query: str
    symbol: str
    text: str
    language: str
    package: str
    path: str

    @property
    def chunk(self) -> Chunk:
        return Chunk(self.path, self.language, self.symbol, 1, 1, self.text, self.package, digest="")


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How much to take.

    Attributes:
        per_package, per_file: most pairs, so that no large package is all there is to learn.
        held_back: most pairs that are kept for measuring, from packages that are not trained on.
        held_out: names of packages that must not be in it at all.
    """

    per_package: int = 1600
    per_file: int = 12
    held_back: int = 2000
    held_out: frozenset[str] = frozenset()
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Pairs:
    """Both splits; ``left_out`` counts files of packages that are held out."""

    train: list[Pair]
    held_back: list[Pair]
    left_out: int = field(default=0, compare=False)

    @property
    def digest(self) -> str:
        """sha256 over both splits, hex."""
        splits = [[asdict(pair) for pair in split] for split in (self.train, self.held_back)]
        return sha256(json.dumps(splits, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")).hexdigest()


def collect_pairs(roots: Sequence[Root], options: PairOptions, progress: Progress) -> Pairs:
    """What the sources document; equal sources and options give equal pairs, in whatever order the sources come.

    Raises:
        SourceHeldOut: a source is to be held out.
        NothingToLearnFrom: fewer than three pairs, or all of one file.
    """
    held_out = HeldOut(options.held_out)
    for root in roots:
        held_out.refuse(root)
    found: list[Pair] = []
    left_out: Counter[str] = Counter()
    for number, root in enumerate(sorted(set(roots), key=lambda root: (root.repo, str(root.path)))):
        progress(number / len(roots), f"reading {root.repo}, {len(found)} pairs")
        found.extend(_of_package(root, options, held_out, left_out))
    train, held_back = _split(list(_unique(found)), options)
    if len(train) < 2 or not held_back:
        raise NothingToLearnFrom(
            f"the sources document {len(found)} definitions in a sentence that can be learned from",
            "name larger sources, with docstrings or documentation comments, from two packages or more",
        )
    return Pairs(train, held_back, left_out["files"])


def _of_package(root: Root, options: PairOptions, held_out: HeldOut, left_out: Counter[str]) -> Iterator[Pair]:
    random = Random(f"{options.seed}:{root.repo}")  # noqa: S311
    files = [file for file in walk([root]) if not _ASIDE.search(file.path) and file.size <= _LARGEST_BYTES]
    random.shuffle(files)
    taken = 0
    for file in files:
        if taken >= options.per_package:
            return
        if held_out.has(file.path):
            left_out["files"] += 1
            continue
        pairs = _of_file(file, root.repo)
        random.shuffle(pairs)
        chosen = pairs[: min(options.per_file, options.per_package - taken)]
        taken += len(chosen)
        yield from chosen


def _of_file(file: SourceFile, package: str) -> list[Pair]:
    try:
        text = decoded(file.read())
    except OSError:  # it went since it was listed
        return []
    asked = [] if text is None else candidates(file.path, text)
    without = blanked(file.path, text or "", [candidate.documented for candidate in asked])
    if not asked or without is None:
        return []
    chunks = chunk_file(file.path, without.encode(), package)
    pairs = []
    for candidate in asked:
        chunk = _chunk_of(candidate, chunks)
        if chunk is not None:
            pairs.append(Pair(candidate.query, chunk.symbol, chunk.text, chunk.language, package, file.path))
    return pairs


def _chunk_of(candidate: Candidate, chunks: Sequence[Chunk]) -> Chunk | None:
    """The first chunk of the definition; None where it is only a part of a chunk that holds others too."""
    first, last = candidate.documented.first + 1, candidate.documented.last + 1
    chunk = next((chunk for chunk in chunks if chunk.line_start <= last and chunk.line_end >= first), None)
    return chunk if chunk is not None and (chunk.line_start >= first or chunk.line_end <= last) else None


def _unique(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """A sentence or a chunk that comes again would be a wrong answer to its own question."""
    seen: set[str] = set()
    for pair in pairs:
        keys = {f"q{pair.query.casefold()}", f"t{pair.text}"}
        if not keys & seen:
            seen |= keys
            yield pair


def _split(pairs: list[Pair], options: PairOptions) -> tuple[list[Pair], list[Pair]]:
    """Training and held-back pairs: whole packages are held back, of a single package whole files."""
    one_package = len({pair.package for pair in pairs}) == 1
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.path if one_package else pair.package, []).append(pair)
    order = sorted(groups, key=lambda name: sha256(f"{options.seed}\0{name}".encode("utf-8", "replace")).digest())
    wanted = min(options.held_back, len(pairs) // 10)
    held_back: list[Pair] = []
    while len(order) > 1 and (not held_back or len(held_back) < wanted):
        held_back.extend(groups[order.pop()])
    return [pair for name in sorted(order) for pair in groups[name]], held_back[: options.held_back]


__all__ = ["NothingToLearnFrom", "Pair", "PairOptions", "Pairs", "collect_pairs"]
