"""What `slipstream serve` tells the operator: a line while it starts, and where everything is once it is ready."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import click

from slipstream import SlipstreamError
from slipstream.api.boundary import is_loopback
from slipstream.ensemble.bundle import Bundle
from slipstream.settings import Settings

DEFAULT_PORT = 8080


@contextmanager
def startup_line() -> Iterator[Callable[[], None]]:
    """A line on the terminal whose seconds go on with each call; silence elsewhere (the log has the events)."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console

    started = monotonic()
    with Console(stderr=True).status("starting Triton", refresh_per_second=4) as status:
        yield lambda: status.update(f"starting Triton and loading its models · {monotonic() - started:.0f} s")


def warn_if_open(host: str) -> None:
    """Say loudly that whoever reaches the port may use it."""
    if not is_loopback(host):
        click.secho(
            f"WARNING: {host} is reachable from other machines, and there is no authentication.", fg="red", err=True
        )
        click.secho("  Everyone who reaches it can read what is indexed. Keep to --host 127.0.0.1, or put a", err=True)
        click.secho("  proxy that authenticates in front.", err=True)


def announce(base_url: str, bundle: Bundle, settings: Settings, ready_s: float, *, as_json: bool) -> None:
    """Print where the server is, what it serves, and how to ask."""
    manifest = bundle.manifest
    collections, problem = _collections(bundle, settings)
    if as_json:
        fields = {
            "url": base_url,
            "release": manifest.release_name,
            "bundle": manifest.id,
            "collections": collections,
            "problem": problem or None,
            "ready_s": round(ready_s, 2),
        }
        click.echo(json.dumps({"ready": fields}, ensure_ascii=False))
        return
    names = ", ".join(f"{name} ({chunks:,} chunks)" for name, chunks in collections.items())
    url = "" if base_url.endswith(f":{DEFAULT_PORT}") else f"--url {base_url} "
    click.secho("ready", fg="green", bold=True, nl=False)
    click.echo(f" after {ready_s:.1f} s · Ctrl-C stops it\n")
    click.echo(f"  API         {base_url}/v1 (any OpenAI client; model slipstream)")
    click.echo(f"  bundle      {manifest.release_name} ({manifest.id})")
    click.echo(f"  collection  {names or 'none yet'}")
    click.echo(f'  ask         slipstream ask {url}"..."\n')
    if problem:
        click.secho(f"  {problem}\n", fg="yellow")


def _collections(bundle: Bundle, settings: Settings) -> tuple[dict[str, int], str]:
    """Chunks by collection, and what keeps the default collection from answering."""
    from slipstream.ensemble.retrieval.stores import open_store

    try:
        found = {info.collection: info for info in open_store(settings).collections()}
    except SlipstreamError as error:
        return {}, f"The collections cannot be listed: {error.message} (try: {error.remedy})"
    counts = {name: info.chunks for name, info in found.items()}
    default = found.get(settings.collection)
    remedy = f"slipstream index PATH --collection {settings.collection}"
    if default is None:
        return counts, f"There is no collection {settings.collection!r} to answer from yet (try: {remedy})"
    if default.embedder_digest != bundle.manifest.embedder.digest:
        return counts, f"The collection {settings.collection!r} was made with another embedder (try: {remedy})"
    return counts, ""
