"""The corpora of a suite as one collection: copies without the documentation that is asked for, and the queries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.evaluation.docstrings import Candidate, blanked, candidates, decoded, sampled
from slipstream.ensemble.retrieval.evaluation.queries import (
    Answer,
    Query,
    check_answers,
    read_questions,
    read_unanswerable,
)
from slipstream.ensemble.retrieval.evaluation.suite import Corpus, Suite, SuiteInvalid
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.retrieval.walk import resolve_root, walk


@dataclass(frozen=True, slots=True)
class Collection:
    """What is searched, and what is asked.

    Attributes:
        roots: the folders to index, one for each corpus, called as the corpus is.
        prefix: what a path of the index lacks to begin with its corpus's name (an index of one root has no prefixes).
        chunks: of all files, as an index of ``roots`` cuts them.
    """

    roots: tuple[Path, ...]
    prefix: str
    chunks: tuple[Chunk, ...]
    queries: tuple[Query, ...]
    unanswerable: tuple[Query, ...]


def assemble(
    suite: Suite, everything: Suite, folder: Path, sources: Mapping[str, Path], into: Path, progress: Progress
) -> Collection:
    """Copy the ``sources`` of each corpus of ``suite`` below ``into``, and read the queries of the suite ``folder``.

    Raises:
        SuiteInvalid: a corpus holds no source, or a question is wrong.
    """
    questions = read_questions(folder, suite, everything)
    answers = [answer for question in questions.values() for answer in question.answers]
    files: dict[str, list[str]] = {}
    queries: list[Query] = []
    for number, corpus in enumerate(suite.corpora):
        progress(number / len(suite.corpora), corpus.name)
        taken = _Copied(corpus, sources[corpus.name])
        asked = sampled(taken.candidates(answers), suite.docstrings.per_corpus, suite.docstrings.seed)
        queries += taken.without(asked)
        files |= taken.write(into)
    check_answers(questions, files)
    queries += questions.values()
    roots = tuple(into / corpus.name for corpus in suite.corpora)
    return Collection(
        roots=roots,
        prefix="" if len(roots) > 1 else f"{roots[0].name}/",
        chunks=tuple(_chunks(roots, progress)),
        queries=tuple(queries),
        unanswerable=tuple(read_unanswerable(folder)),
    )


class _Copied:
    """The files of a corpus on their way into the collection; paths begin with its name."""

    def __init__(self, corpus: Corpus, source: Path) -> None:
        self._corpus = corpus
        self._texts: dict[str, str] = {}
        self._others: dict[str, bytes] = {}  # not UTF-8: copied as they are
        include, exclude = GitIgnoreSpec.from_lines(corpus.include), GitIgnoreSpec.from_lines(corpus.exclude)
        for file in walk([resolve_root(str(source))]):
            if include.match_file(file.path) and not exclude.match_file(file.path):
                data, path = file.absolute.read_bytes(), f"{corpus.name}/{file.path}"
                text = decoded(data)
                if text is None:
                    self._others[path] = data
                else:
                    self._texts[path] = text
        if not self._texts and not self._others:
            raise SuiteInvalid(f"the corpus {corpus.name} holds no source", "correct its path, include and exclude")

    def candidates(self, answers: Sequence[Answer]) -> Iterator[Candidate]:
        """What can be asked. Documentation that answers a written question is left where it is."""
        for path, text in self._texts.items():
            here = [answer for answer in answers if answer.path == path]
            yield from (found for found in candidates(path, text) if not any(_holds(found, answer) for answer in here))

    def without(self, asked: Sequence[Candidate]) -> Iterator[Query]:
        """Take the documentation of ``asked`` out, and give the queries that it makes."""
        for path in dict.fromkeys(candidate.path for candidate in asked):
            here = [candidate for candidate in asked if candidate.path == path]
            text = blanked(path, self._texts[path], [candidate.documented for candidate in here])
            if text is None:  # a file that cannot do without it is not asked for
                continue
            self._texts[path] = text
            yield from map(self._query, here)

    def _query(self, candidate: Candidate) -> Query:
        definition = candidate.documented
        lines = Answer(path=candidate.path, line_start=definition.first + 1, line_end=definition.last + 1)
        return Query(
            id=f"{candidate.path}:{definition.symbol}",
            kind="docstring",
            language="en",
            split=self._corpus.split,
            text=candidate.query,
            answers=(lines,),
        )

    def write(self, into: Path) -> dict[str, list[str]]:
        """Write the copies and return path -> lines."""
        contents = {path: text.encode() for path, text in self._texts.items()} | self._others
        for path, data in contents.items():
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return {path: _lines(self._texts.get(path) or data.decode("latin-1")) for path, data in contents.items()}


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _holds(candidate: Candidate, answer: Answer) -> bool:
    first, last = candidate.documented.blank
    return first < answer.line_end and answer.line_start <= last + 1


def _chunks(roots: Sequence[Path], progress: Progress) -> Iterator[Chunk]:
    files = list(walk([resolve_root(str(root)) for root in roots]))
    for number, file in enumerate(files):
        progress(number / len(files), "chunks")
        yield from chunk_file(file.path, file.absolute.read_bytes(), file.repo)


__all__ = ["Collection", "assemble"]
