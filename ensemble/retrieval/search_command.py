"""``slipstream search``."""

import logging
import sys
from contextlib import closing
from time import monotonic, sleep

import click
import structlog

from slipstream import InputError
from slipstream.ensemble.contracts import MAX_SEARCH_LIMIT, SURE, SearchRequest, SearchResult
from slipstream.ensemble.retrieval.errors import IndexHeld, StoreUnavailable
from slipstream.ensemble.retrieval.freshness.revisions import find
from slipstream.ensemble.signing.trust import trusted_bundle
from slipstream.settings import Settings

_SNIPPET_LINES = 5
_HELD_SECONDS = 2.0  # as long as another search takes


class SearchRefused(InputError):
    """The running server answered that it will not search this."""


@click.command()
@click.argument("query")
@click.option("--collection", metavar="NAME", help="Where to look (SLIPSTREAM_COLLECTION; code).")
@click.option("--limit", type=click.IntRange(1, MAX_SEARCH_LIMIT), default=10, show_default=True, help="How many hits.")
@click.option("--language", metavar="NAME", help="Only chunks in this language, such as python.")
@click.option("--repo", metavar="NAME", help="Only chunks of this repository.")
@click.option("--path-prefix", metavar="PATH", help="Only files whose path begins so.")
@click.option("--revision", metavar="REV", help="As of this commit, branch or tag; the last indexed by default.")
@click.option("--bundle", metavar="BUNDLE", help="Whose embedder to use; the active bundle's by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def search(
    query: str, collection: str | None, limit: int, bundle: str | None, as_json: bool, **where: str | None
) -> None:
    """Search a collection for QUERY: by meaning and by words, best first.

    While `slipstream serve` runs on this machine, it is the one that searches.

    \b
    Example:
      slipstream search "where is the retry budget enforced"
      slipstream search "parse the header" --language python --path-prefix starlette/ --limit 3
      slipstream search "where are prices rounded" --collection shop --revision v1.0
    """
    settings = Settings()
    if not query.strip():
        raise InputError("the query is empty", "write what to look for")
    name = settings.collection if collection is None else collection
    _check_text(query, name, *where.values())
    request = SearchRequest(query=query, collection=name, limit=limit, **where)
    result = _search(request, settings, bundle)
    if as_json:
        click.echo(result.model_dump_json())
        return
    if not result.hits:
        click.echo(f"nothing found in {result.collection}")
    elif result.confidence < SURE:
        click.echo(f"probably not in {result.collection} (confidence {result.confidence:.2f}); nearest:")
    for hit in result.hits:
        click.secho(_printable(f"{hit.path}:{hit.line_start}-{hit.line_end}"), fg="cyan", nl=False)
        click.echo(_printable(f" {hit.symbol} {hit.score:.3f}" if hit.symbol else f" {hit.score:.3f}"))
        for line in _snippet(hit.text):
            click.echo(_printable(f"    {line}"))


def _check_text(*arguments: str | None) -> None:
    """
    Raises:
        InputError: the terminal passed bytes that are no UTF-8.
    """
    for argument in filter(None, arguments):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{argument!r} is not UTF-8", "write it in UTF-8") from error


def _printable(text: str) -> str:
    """``text`` with what would steer the terminal spelled out: names and code are whatever their author wrote."""
    return "".join(letter if letter.isprintable() or letter == "\t" else repr(letter)[1:-1] for letter in text)


def _snippet(text: str) -> list[str]:
    lines = text.splitlines()
    return lines if len(lines) <= _SNIPPET_LINES else [*lines[: _SNIPPET_LINES - 1], "…"]


def _search(request: SearchRequest, settings: Settings, bundle: str | None) -> SearchResult:
    """Search here, or ask the server if it has the index open: one process owns a shard, so another search waits."""
    from slipstream.ensemble.embedder import Embedder
    from slipstream.ensemble.retrieval.search import Searcher
    from slipstream.ensemble.retrieval.stores import open_store

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    store = open_store(settings)
    store.current(request.collection)  # a wrong name is told before anything is loaded
    if request.revision is not None:
        find(store.versions(request.collection), request.revision)
    embedder = Embedder(trusted_bundle(settings, bundle).embedder_dir)
    searcher = Searcher(store, embedder.digest)
    vector = embedder.embed_questions([request.query])[0]
    deadline = monotonic() + _HELD_SECONDS
    with closing(searcher):
        while True:
            try:
                return searcher.search(request, vector)
            except IndexHeld:
                if (result := _ask_server(request, settings)) is not None:
                    return result
                if monotonic() >= deadline:
                    raise
            sleep(0.05)


def _ask_server(request: SearchRequest, settings: Settings) -> SearchResult | None:
    """The hits of the server at the address in force; None if none answers there.

    Raises:
        StoreUnavailable: the server cannot search.
        SearchRefused: the server says that the request is wrong.
    """
    import httpx

    url = f"http://{settings.host}:{settings.port}/v1/search"
    try:
        # This machine's own server: proxies of the environment do not apply.
        with httpx.Client(trust_env=False, timeout=30.0) as client:
            response = client.post(url, json=request.model_dump(exclude_none=True))
        if response.is_success:
            return SearchResult.model_validate_json(response.content)
        error = response.json()["error"]
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return None
    if response.is_server_error:
        raise StoreUnavailable(f"{url} answered: {error.get('message')}", "see the server's log")
    raise SearchRefused(f"{url} answered: {error.get('message')}", "change the request")


__all__ = ["search"]
