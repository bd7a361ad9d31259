"""The whole appliance on the retrieval benchmark: what it cites, what it declines, and whether the lines are right.

Every query of one split of ``tests/retrieval`` is asked through the facade, greedily and eight at once, over all
packages of the suite in one collection. Each citation is checked against the files: they exist, the lines are inside,
and every line that is not empty was in what the search found. A citation is right when it overlaps lines that answer.

Run: ``python -m tests.benchmarks.answers`` with a home that has a bundle. Exit code 1 if one citation is invalid.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.contracts import RETRIEVED_CHUNKS
from slipstream.ensemble.retrieval.evaluation.collection import Collection, assemble
from slipstream.ensemble.retrieval.evaluation.corpora import fetch_corpora
from slipstream.ensemble.retrieval.evaluation.queries import Query
from slipstream.ensemble.retrieval.evaluation.rankers import Bench, Product
from slipstream.ensemble.retrieval.evaluation.suite import load_suite
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from slipstream.settings import Settings
from tests.benchmarks.served import Server, machine, serve

SUITE = Path(__file__).parents[1] / "retrieval"
STREAMS, MAX_TOKENS, COLLECTION = 8, 128, "evaluation"
GROUPS = (("docstring", "en"), ("question", "en"), ("question", "ru"), ("unanswerable", "en"), ("unanswerable", "ru"))
_Found = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Given:
    """One answer: its citations, and why the invalid ones are.

    Attributes:
        first: the best of the chunks that the answer's contexts were chosen from has the right lines.
        unresolved: marks of the text that stand for no citation.
    """

    query: Query
    text: str
    grounded: bool
    cut: bool
    citations: _Found
    first: bool
    unresolved: int
    problems: tuple[str, ...]

    @property
    def right(self) -> bool:
        return any(_answers(self.query, one) for one in self.citations)


def _answers(query: Query, lines: Mapping[str, Any]) -> bool:
    return any(
        answer.path == lines["path"]
        and lines["line_start"] <= answer.line_end
        and answer.line_start <= lines["line_end"]
        for answer in query.answers
    )


def problem(citation: Mapping[str, Any], found: _Found, files: Path) -> str | None:
    """Why ``citation`` is invalid, or None."""
    path, start, end = citation["path"], citation["line_start"], citation["line_end"]
    if not (files / path).is_file():
        return f"{path} does not exist"
    lines = (files / path).read_text(encoding="utf-8", errors="replace").split("\n")
    if not 1 <= start <= end <= len(lines):
        return f"{path}:{start}-{end} is outside its {len(lines)} lines"
    shown = {line for hit in found if hit["path"] == path for line in range(hit["line_start"], hit["line_end"] + 1)}
    missing = [line for line in range(start, end + 1) if line not in shown and lines[line - 1].strip()]
    return f"{path}:{missing[0]} was not found" if missing else None


async def ask(client: httpx.AsyncClient, query: Query, files: Path) -> Given:
    body = {
        "model": "slipstream",
        "messages": [{"role": "user", "content": query.text}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    search = await client.post("/v1/search", json={"query": query.text, "limit": RETRIEVED_CHUNKS})
    found = search.raise_for_status().json()["hits"]
    choice, citations = answer["choices"][0], answer["citations"]
    marks = set(cited_numbers(choice["message"]["content"]))
    return Given(
        query=query,
        text=choice["message"]["content"],
        grounded=answer["grounded"],
        cut=choice["finish_reason"] == "length",
        citations=citations,
        first=any(_answers(query, hit) for hit in found[:1]),
        unresolved=len(marks) - len(citations),
        problems=tuple(why for one in citations if (why := problem(one, found, files)) is not None),
    )


async def ask_all(server: Server, queries: Sequence[Query], files: Path) -> list[Given]:
    waiting, given = iter(queries), list[Given]()

    async def worker(client: httpx.AsyncClient) -> None:
        for query in waiting:
            given.append(await ask(client, query, files))
            if len(given) % 50 == 0:
                print(f"{len(given)} of {len(queries)} answered", file=sys.stderr, flush=True)

    async with httpx.AsyncClient(base_url=f"http://{server.host}:{server.port}", timeout=300) as client:
        await asyncio.gather(*(worker(client) for _ in range(STREAMS)))
    return given


def show(given: Sequence[Given]) -> bool:
    """Print what was measured; whether every citation is valid."""
    total = sum(len(one.citations) for one in given)
    invalid = [(one.query.text, why) for one in given for why in one.problems]
    unresolved = sum(one.unresolved for one in given)
    uncited = sum(one.grounded and not one.citations and not one.cut for one in given)
    print(f"valid citations: {total - len(invalid)} of {total} over {len(given)} queries (goal: 100%)")
    print(f"marks that resolve to nothing: {unresolved}; whole answers without a citation: {uncited} (goal: 0, 0)")
    cut = [one for one in given if one.cut]
    print(
        f"cut at {MAX_TOKENS} tokens: {len(cut)}, of these without a citation: {sum(not one.citations for one in cut)}"
    )
    print(f"{'kind':14}{'':4}{'n':>5}{'declined':>12}{'answered':>10}{'first hit right':>17}{'cites right lines':>19}")
    for kind, language in GROUPS:
        group = [one for one in given if (one.query.kind, one.query.language) == (kind, language)]
        if not group:
            continue
        answered = [one for one in group if one.grounded]
        line = f"{kind:14}{language:4}{len(group):5}{1 - len(answered) / len(group):12.1%}{len(answered):10}"
        if kind != "unanswerable" and answered:
            line += f"{sum(one.first for one in answered) / len(answered):17.1%}"
            line += f"{sum(one.right for one in answered) / len(answered):19.1%}"
        print(line)
    for question, why in invalid:
        print(f"  invalid: {question} -> {why}")
    return not invalid and not unresolved and not uncited


def write(given: Sequence[Given], path: Path) -> None:
    """A line for each answer."""
    with path.open("w", encoding="utf-8") as file:
        for one in given:
            line = asdict(one) | {"query": one.query.model_dump(), "right": one.right}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def collected(split: str, settings: Settings, into: Path) -> tuple[Collection, list[Query]]:
    """The suite's collection, copied below ``into`` and indexed in the cache, and the queries of ``split``."""

    def progress(share: float, doing: str) -> None:
        print(f"\r{share:4.0%} {doing:60}", end="", file=sys.stderr, flush=True)

    suite, kept = load_suite(SUITE), settings.cache_dir / "evaluation"
    collection = assemble(suite, suite, SUITE, fetch_corpora(suite, SUITE, kept, progress), into, progress)
    embedder = CachedEmbedder(find_bundle(settings.bundles_dir).embedder_dir, kept)
    Product(Bench(collection, embedder, embedder, kept, progress)).close()
    return collection, [
        query for query in (*collection.queries, *collection.unanswerable) if split in ("all", query.split)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("development", "test", "all"), default="test")
    parser.add_argument("--details", type=Path, metavar="FILE.jsonl", help="write every answer there")
    given = parser.parse_args()
    settings = Settings()
    bundle = find_bundle(settings.bundles_dir)
    with tempfile.TemporaryDirectory(dir=settings.root, prefix="answers-") as place:
        home, files = Path(place) / "home", Path(place) / "files"
        collection, queries = collected(given.split, settings, files)
        (home / "bundles").mkdir(parents=True)
        (home / "bundles" / bundle.path.name).symlink_to(bundle.path)
        (home / "index").symlink_to(settings.cache_dir / "evaluation" / "index")
        print(f"\nmachine: {machine()}; {len(collection.chunks):,} chunks, {len(queries)} queries of {given.split}")
        with (
            mock.patch.dict(os.environ, SLIPSTREAM_HOME=str(home), SLIPSTREAM_COLLECTION=COLLECTION),
            serve(settings.root / "logs" / "benchmark-answers.log", bundle.path.name) as server,
        ):
            answers = asyncio.run(ask_all(server, queries, files))
    if given.details is not None:
        write(answers, given.details)
    raise SystemExit(not show(answers))


if __name__ == "__main__":
    main()
