"""``slipstream profile limit``."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from slipstream import EnvironmentFault
from slipstream.profiling.limit.bundle import find_folder, read_work
from slipstream.profiling.limit.kept import measure, read_kept
from slipstream.profiling.limit.limits import Limits
from slipstream.settings import Settings

DEFAULT_STREAMS = (1, 2, 4, 8)


class Streams(click.ParamType[tuple[int, ...]]):
    """``1,4,8``."""

    name = "N,.."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            streams = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers", param, ctx)
        if min(streams) < 1:
            self.fail(f"{min(streams)} streams are none", param, ctx)
        return streams


@click.command()
@click.option("--bundle", help="Its id or the beginning of one, or its folder. [default: the active one]")
@click.option(
    "--prompt-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Of each stream's context."
)
@click.option(
    "--cached-tokens", type=click.IntRange(min=0), default=0, show_default=True, help="Of them in the prefix cache."
)
@click.option("--streams", type=Streams(), default=DEFAULT_STREAMS, help="At once.  [default: 1,2,4,8]")
@click.option("--probe-again", is_flag=True, help="Measure this host anew, whatever is kept of it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def limit(
    bundle: str | None,
    prompt_tokens: int,
    cached_tokens: int,
    streams: tuple[int, ...],
    probe_again: bool,
    as_json: bool,
) -> None:
    """Say how fast this machine could be with a bundle: no answer is faster than its reading and its computing.

    What one token makes the engine read and compute is counted from the bundle's files. What the host can do is
    measured once, in a few seconds on every core, and kept in cache/; leave the machine alone meanwhile. For an engine
    that runs on a GPU the figures are those of its data sheet.

    Exit codes: 0 fine · 2 no bundle, one that cannot be counted, or others disturbed the measurement.

    \b
    Example:
      slipstream profile limit
      slipstream profile limit --prompt-tokens 2048 --cached-tokens 512 --streams 1,8
    """
    settings = Settings()
    found = read_work(find_folder(settings.home / "bundles", bundle))
    measured = None
    roof = found.roof
    if roof is None:
        kept = None if probe_again else read_kept(settings.home)
        measured = kept or measure(settings.home, _told(quiet=as_json))
        roof = measured.roof
    limits = Limits.of(found, roof, prompt_tokens, cached_tokens, streams, measured.at if measured else "")
    if as_json:
        click.echo(json.dumps(limits.to_plain(), indent=1))
    else:
        for line in limits.lines():
            click.echo(line)
    if measured is not None and measured.is_disturbed:
        others = f"{100 * (measured.others_share or 0):.0f}%"
        raise EnvironmentFault(
            f"others used {others} of the cores meanwhile: the bounds may be too high, and are not kept",
            "stop what else runs (an idle server may stay) and give the same command again",
        )


def _told(*, quiet: bool) -> Callable[[str], None]:
    def tell(what: str) -> None:
        if not quiet and sys.stderr.isatty():
            click.echo(f"measuring {what} ...", err=True)

    return tell


__all__ = ["limit"]
