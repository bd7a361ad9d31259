"""The columns that ways of searching are compared by."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from slipstream.ensemble.retrieval.evaluation.collection import Collection
from slipstream.ensemble.retrieval.evaluation.queries import Answer, Query
from slipstream.ensemble.retrieval.evaluation.ranker import Ranked, Ranker
from slipstream.ensemble.retrieval.store import Chunk
from tests.benchmarks.compared import outcome, show, without


class Scripted(Ranker):
    """Chunks of 150 lines each, in the file's order; nothing for a query without text."""

    def rank(self, query: Query, limit: int) -> Sequence[Ranked]:
        places = [(at * 150 + 1, at * 150 + 150) for at in range(20)] if query.text != "?" else []
        return [Ranked("a.py", first, last, 1.0) for first, last in places[:limit]]


def query(name: str, line: int, text: str = "how?", language: str = "en", path: str = "a.py") -> Query:
    answers = (Answer(path=path, line_start=line, line_end=line),)
    fields = {"id": name, "kind": "question", "language": language, "split": "development", "text": text}
    return Query.model_validate({**fields, "answers": answers})


QUERIES = [query("a", 10), query("b", 160), query("c", 10, text="?"), query("d", 2900, language="ru")]
CHUNKS = [Chunk("a.py", "python", "", first, last, "", "", "") for first, last in ((1, 4), (5, 12))]


def test_what_is_read_ends_where_the_right_chunk_does() -> None:
    one = outcome("way", Scripted(), CHUNKS, QUERIES)
    assert one.ranks.tolist() == [1, 2, 0, 20]
    assert one.read.tolist() == [150, 300, np.inf, 3000]
    assert (one.chunks, one.lines) == (2, 6.0)


def test_a_line_is_compared_with_the_first_of_its_split(capsys: pytest.CaptureFixture[str]) -> None:
    one = outcome("way", Scripted(), CHUNKS, QUERIES)
    better = outcome("better", Scripted(), CHUNKS, [query(name, 10) for name in "abcd"])
    show([one, better], QUERIES)
    development, test = capsys.readouterr().out.split("\ntest")
    usual, more = development.splitlines()[-2:]
    assert usual.split() == ["way", "2", "6.0", "0.500", "0.000", "0.333"]  # MRR@10: the 20th is too late
    assert more.split()[:5] == ["better", "2", "6.0", "1.000", "+0.500"]
    assert more.split()[-5:-3] == ["1.000", "+0.667"]  # within 200 lines, in English
    assert "documentation (0)" in test
    assert test.splitlines()[-1].split() == ["better", "2", "6.0"]


def test_a_package_that_is_left_out_is_not_searched_and_not_asked_for() -> None:
    chunks = tuple(replace(one, path=path) for one in CHUNKS for path in ("a/x", "ab/x"))
    asked = [query("one", 1, path="a/x"), query("other", 1, path="ab/x")]
    left = without(Collection((), "", chunks, tuple(asked), ()), ["a"])
    assert {chunk.path for chunk in left.chunks} == {"ab/x"}
    assert [one.id for one in left.queries] == ["other"]
