"""``slipstream index``."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import click
import structlog

from slipstream import InputError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.freshness.revisions import KEEP
from slipstream.ensemble.signing.trust import trusted_bundle
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.ensemble.retrieval.index import IndexReport

_EVENT_SECONDS = 10.0  # between two progress events

_REASONS = {
    "ignored": "left out by .gitignore, or a folder of dependencies",
    "hidden": "name begins with a dot",
    "binary": "binary",
    "generated": "generated or minified",
    "too_large": "larger than 16 MB",
    "broken_notebook": "a notebook that is no JSON, or all on one line",
    "unknown_language": "no language that is indexed",
    "symlink": "symbolic link",
    "symlink_loop": "symbolic link to a folder around it",
    "submodule": "another repository; name its folder too to index it",
    "unreadable": "cannot be read",
}


_CAVEATS = {
    "guessed_encoding": "not UTF-8, or damaged: read as what its letters make likely",
    "broken_notebook": "a notebook with nothing in it that can be read",
    "parse_timeout": "took its parser too long: cut without syntax",
    "crumbled": "thousands of definitions of a few characters: cut without syntax",
    "parse_crash": "brought its parser down: cut without syntax",
}


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--collection", metavar="NAME", help="What to call it (SLIPSTREAM_COLLECTION; code).")
@click.option("--bundle", metavar="BUNDLE", help="Whose embedder to use; the active bundle's by default.")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Index with N workers; needs QDRANT_URL.")
@click.option("--ray", metavar="ADDRESS", help="The Ray cluster they run in, HOST:PORT or auto; else this machine.")
@click.option(
    "--watch", is_flag=True, help="Stay up, and follow the commits of the git repositories that PATHs lie in."
)
@click.option(
    "--keep",
    type=click.IntRange(2, 1000),
    default=KEEP,
    show_default=True,
    metavar="N",
    help="How many revisions of a git repository stay searchable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def index(
    paths: tuple[str, ...],
    collection: str | None,
    bundle: str | None,
    workers: int | None,
    ray: str | None,
    watch: bool,
    keep: int,
    as_json: bool,
) -> None:
    """Index the source below each PATH into a collection: a folder, a file, or pkg:NAME for an installed package.

    The collection then holds these PATHs and nothing else. Run it again after a change: only what is new is embedded.
    A running server keeps answering, from the old version until the new one is whole.

    With --workers (or --ray, which means one for each machine of the cluster) the files are chunked and embedded by
    several processes, which write to the Qdrant server; they see the sources at the same paths as this machine.

    With --watch it indexes what is committed, as of the commit, then stays up until Ctrl-C: a commit, a pull, another
    branch, a finished rebase are indexed when they are there. Edits that are not committed are left out, and so are
    submodules. `slipstream search --revision` finds in the last revisions.

    \b
    Example:
      slipstream index ./src ./docs --collection shop
      slipstream index pkg:fastapi pkg:starlette
      slipstream index ./shop --collection shop --watch
      slipstream index /srv/sources/* --ray head:6379
    """
    from slipstream.ensemble.embedder import Embedder
    from slipstream.ensemble.retrieval.index import build_index
    from slipstream.ensemble.retrieval.stores import open_store

    settings = Settings()
    name = settings.collection if collection is None else collection
    _log_to(structlog.PrintLoggerFactory(sys.stderr), structlog.processors.JSONRenderer(ensure_ascii=False))
    folder = trusted_bundle(settings, bundle).embedder_dir
    if watch:
        if workers is not None or ray is not None:
            raise InputError("--watch runs in one process", "leave out --workers and --ray, or --watch")
        _watch(paths, name, settings, folder, keep, as_json)
    indexing = None
    if workers is not None or ray is not None:
        from slipstream.ensemble.retrieval.distributed.cluster import Workforce
        from slipstream.ensemble.retrieval.distributed.index import distributed

        indexing = distributed(Workforce(workers, ray), settings, folder)
    with _shown(name) as progress:
        report = build_index(paths, name, open_store(settings), Embedder(folder), progress, indexing, keep)
    if as_json:
        click.echo(json.dumps(asdict(report), ensure_ascii=False))
        return
    for line in _report_lines(report):
        click.echo(line)


def _watch(
    paths: tuple[str, ...], collection: str, settings: Settings, embedder_dir: Path, keep: int, as_json: bool
) -> NoReturn:
    from slipstream.ensemble.embedder import Embedder
    from slipstream.ensemble.retrieval.freshness.commits import Commits
    from slipstream.ensemble.retrieval.freshness.watch import Watch, alone
    from slipstream.ensemble.retrieval.index import build_version
    from slipstream.ensemble.retrieval.stores import open_store

    store = open_store(settings)

    def make(commits: Commits) -> "IndexReport":
        with _shown(collection) as progress:
            return build_version(commits, collection, store, embedder, progress, keep=keep)

    def tell(report: "IndexReport") -> None:
        if as_json:
            click.echo(json.dumps(asdict(report), ensure_ascii=False))
        else:
            click.echo(_told(report))

    watch = Watch(paths, make, tell)
    with alone(settings.index_dir, collection):
        embedder = Embedder(embedder_dir)
        watch.run()


def _told(report: "IndexReport") -> str:
    what = f"{datetime.now():%H:%M:%S} {report.collection} is at {', '.join(report.revisions)}"
    return (
        f"{what}: {report.chunks:,} chunks, {report.embedded:,} embedded, {report.removed:,} removed, "
        f"{report.seconds:.1f} s"
    )


def _report_lines(report: "IndexReport") -> Iterator[str]:
    name = f"{report.collection} (version {report.version})"
    if report.unchanged:
        yield f"nothing changed: {name} is up to date, {report.seconds:.1f} s"
    else:
        yield f"indexed {name} in {report.seconds:.1f} s"
    rows = [("files", report.files, ""), ("chunks", report.chunks, "")]
    if not report.unchanged:
        rows += [
            ("  embedded", report.embedded, ""),
            ("  reused", report.reused, "same text as in the version before"),
            ("removed", report.removed, "in the version before, gone now"),
        ]
    if report.revisions:
        yield f"  {'revision':<20}{', '.join(report.revisions)}"
    rows.append(("left out", sum(report.skipped.values()), ""))
    rows += [(f"  {reason}", count, _REASONS.get(reason, "")) for reason, count in report.skipped.items()]
    if report.caveats:
        rows.append(("with a caveat", sum(report.caveats.values()), ""))
        rows += [(f"  {kind}", count, _CAVEATS.get(kind, "")) for kind, count in report.caveats.items()]
    for label, count, meaning in rows:
        yield f"  {label:<20}{count:>9,}  {meaning if count else ''}".rstrip()
    for root in report.empty_roots:
        yield click.style(f"  nothing to index in {root}", fg="yellow")


@contextmanager
def _shown(collection: str) -> Iterator[Progress]:
    """A bar on a terminal, now and then an event otherwise; both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        _log_to(structlog.PrintLoggerFactory(sys.stderr), structlog.processors.JSONRenderer(ensure_ascii=False))
        yield _events(collection)
        return
    columns = (TextColumn("{task.description}"), BarColumn(32), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.fields[doing]}"), console=console, transient=True) as bar:
        # `Bar` takes stderr over while it is shown, so what is printed there appears above it.
        _log_to(lambda *_: structlog.PrintLogger(sys.stderr), structlog.dev.ConsoleRenderer())
        task = bar.add_task(collection, total=1.0, doing="")
        yield lambda share, doing: bar.update(task, completed=share, doing=doing)


def _events(collection: str) -> Progress:
    log = structlog.get_logger(__name__)
    told = monotonic()

    def progress(share: float, doing: str) -> None:
        nonlocal told
        if monotonic() - told >= _EVENT_SECONDS:
            told = monotonic()
            log.info("index.progress", collection=collection, share=round(share, 2), doing=doing)

    return progress


def _log_to(factory: Any, renderer: Any) -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),  # a search before it may have said less
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )


__all__ = ["index"]
