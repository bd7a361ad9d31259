"""``slipstream evaluate-search``."""

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import structlog

from slipstream import InputError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.signing.trust import trusted_bundle
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.ensemble.retrieval.evaluation.collection import Collection
    from slipstream.ensemble.retrieval.evaluation.report import Report
    from slipstream.ensemble.retrieval.evaluation.runs import Run
    from slipstream.ensemble.retrieval.evaluation.suite import Suite

_ECOSYSTEMS = click.Choice(["pypi", "npm", "debian", "path"])
_SEED = 7  # of the queries that --limit-queries takes
_WIDTH = 150  # of a table that is not on a terminal


class NothingAsked(InputError):
    """No query is left to ask."""


@click.command("evaluate-search")
@click.argument("suite", type=click.Path(path_type=Path), metavar="SUITE_FOLDER")
@click.option("--split", type=click.Choice(["development", "test", "all"]), default="all", show_default=True,
              help="Which queries to ask. All corpora are searched in any case.")  # fmt: skip
@click.option("--rankers", default="bm25,dense,rrf,product", show_default=True, metavar="A,B,...",
              help="What to compare, or all: every step, and what was left out.")  # fmt: skip
@click.option("--only", multiple=True, type=_ECOSYSTEMS, help="Only corpora from there; may be given again.")
@click.option("--skip", multiple=True, type=_ECOSYSTEMS, help="No corpora from there; may be given again.")
@click.option("--limit-queries", type=click.IntRange(1), metavar="N", help="Ask no more than N, drawn by a fixed seed.")
@click.option("--details", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.jsonl",
              help="Write what each ranker found for each query.")  # fmt: skip
@click.option("--bundle", metavar="BUNDLE", help="Whose embedder to use; the active bundle's by default.")
@click.option("--plain-bundle", metavar="BUNDLE", help="Whose embedder the baselines use; the same by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate_search(
    suite: Path, split: str, rankers: str, only: tuple[str, ...], skip: tuple[str, ...], limit_queries: int | None,
    details: Path | None, bundle: str | None, plain_bundle: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure how well the search finds the right lines, and compare it with simple baselines.

    SUITE_FOLDER holds suite.yaml (which sources are searched), and may hold questions.jsonl (questions with the lines
    that answer them) and unanswerable.jsonl. Docstrings become queries too, and are taken out of what is searched. A
    corpus is a pinned package, which is fetched, or a folder of your own:

    \b
      corpora:
        - {name: shop, path: ../src, split: test}

    \b
    Example:
      slipstream evaluate-search tests/retrieval --split development
      slipstream evaluate-search my-suite --rankers dense,product --details found.jsonl
    """
    from slipstream.ensemble.retrieval.evaluation.report import report
    from slipstream.ensemble.retrieval.evaluation.suite import load_suite

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    names = _ranker_names(rankers)
    everything = load_suite(suite)
    narrowed = everything.narrowed(only, skip)
    settings = Settings()
    ours = trusted_bundle(settings, bundle).embedder_dir
    plain = trusted_bundle(settings, plain_bundle).embedder_dir if plain_bundle else ours
    with _details_file(details) as written, _shown() as progress:
        collection, runs = _run(
            suite, everything, narrowed, names, split, limit_queries, (ours, plain), settings, progress
        )
        progress(1.0, "scoring")
        found = report(runs)
        _write_details(runs, written)
    left_out = [corpus.name for corpus in everything.corpora if corpus not in narrowed.corpora]
    if as_json:
        click.echo(json.dumps(_document(found, collection, left_out), ensure_ascii=False, allow_nan=False))
    else:
        _print(found, collection, left_out)


def _ranker_names(given: str) -> list[str]:
    from slipstream.ensemble.retrieval.evaluation.rankers import RANKERS

    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    names = list(RANKERS) if names == ["all"] else names
    unknown = [name for name in names if name not in RANKERS]
    if unknown or not names:
        what = f"there is no ranker {unknown[0]!r}" if unknown else "no ranker is named"
        raise InputError(what, f"name some of {', '.join(RANKERS)}")
    return names


def _run(
    folder: Path, everything: "Suite", suite: "Suite", names: Sequence[str], split: str, limit: int | None,
    embedder_dirs: tuple[Path, Path], settings: Settings, progress: Progress,
) -> "tuple[Collection, list[Run]]":  # fmt: skip
    from slipstream.ensemble.retrieval.evaluation.collection import assemble
    from slipstream.ensemble.retrieval.evaluation.corpora import fetch_corpora
    from slipstream.ensemble.retrieval.evaluation.rankers import Bench
    from slipstream.ensemble.retrieval.evaluation.runs import limited, run
    from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder

    kept = settings.cache_dir / "evaluation"
    sources = fetch_corpora(suite, folder, kept, progress)
    with tempfile.TemporaryDirectory(prefix="slipstream-evaluation-") as place:
        collection = assemble(suite, everything, folder, sources, Path(place), progress)
        wanted = [query for query in (*collection.queries, *collection.unanswerable) if split in ("all", query.split)]
        queries = limited(wanted, limit, _SEED)
        if all(query.kind == "unanswerable" for query in queries):
            raise NothingAsked(
                f"{folder} has no query for the split {split!r}", "write questions.jsonl, or choose another --split"
            )
        ours, plain = (CachedEmbedder(folder, kept) for folder in embedder_dirs)
        bench = Bench(collection, ours, plain, kept, progress)
        return collection, run(names, bench, queries, progress)


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda share, doing: None
        return
    columns = (BarColumn(32), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.fields[doing]}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, doing="")
        yield lambda share, doing: bar.update(task, completed=share, doing=doing)


@contextmanager
def _details_file(path: Path | None) -> Iterator[TextIO | None]:
    """Open before the work begins, so that a wrong path is told at once."""
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:
        yield file


def _write_details(runs: "Sequence[Run]", file: TextIO | None) -> None:
    """A line for each query and ranker, with the places found and the rank of the right one (0: none)."""
    if file is None:
        return
    for one in runs:
        for asked in one.asked:
            line = {"ranker": one.ranker, "rank": asked.rank, "file_rank": asked.file_rank}
            results = [result._asdict() for result in asked.results]
            file.write(json.dumps({**line, **asked.query.model_dump(), "results": results}, ensure_ascii=False) + "\n")


def _document(found: "Report", collection: "Collection", left_out: Sequence[str]) -> dict[str, Any]:
    return {
        "chunks": len(collection.chunks),
        "corpora": [root.name for root in collection.roots],
        "left_out": list(left_out),
        "scores": [asdict(row) for row in found.rows],
        "russian_over_english": [asdict(parity) for parity in found.parities],
        "declining": [_finite(asdict(one)) for one in found.declining],
    }


def _finite(document: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the threshold of a ranker whose scores tell nothing, or that found nothing, is null."""
    fitted = dict(document["fitted"])
    if not isfinite(fitted["threshold"]):
        fitted["threshold"] = None
    return {**document, "fitted": fitted}


def _print(found: "Report", collection: "Collection", left_out: Sequence[str]) -> None:
    from rich.console import Console

    from slipstream.ensemble.retrieval.evaluation.tables import declining_table, parity_table, score_table

    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(f"{len(collection.chunks):,} chunks of {', '.join(root.name for root in collection.roots)}")
    if left_out:
        console.print(f"left out: {', '.join(left_out)}; these figures are not those of the whole suite")
    console.print()
    console.print(score_table(found.rows))
    console.print()
    for table in (
        parity_table(found.parities) if found.parities else None,
        declining_table(found.declining) if found.declining else None,
    ):
        if table is not None:
            console.print(table)
            console.print()


__all__ = ["evaluate_search"]
