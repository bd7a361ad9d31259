"""``slipstream profile run``."""

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from slipstream.settings import Settings


@click.command()
@click.argument("scenario", default="default")
@click.option("--url", help="Server to profile. [default: the appliance on this machine]")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Arrivals per second, instead of the scenario's."
)
@click.option("--requests", type=click.IntRange(min=1), help="Arrivals at most, the warm-up's among them.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds after the warm-up.")
@click.option(
    "--from", "again", type=click.Path(path_type=Path), help="Send nothing: draw the profile in this folder anew."
)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON document.")
@click.pass_context
def run(
    context: click.Context, /, scenario: str, url: str | None, again: Path | None, as_json: bool, **changes: Any
) -> None:
    """Put SCENARIO on a server that tells its stage times, and say where the time of its slow answers went.

    SCENARIO is a load test's: a YAML file, or the name of a shipped one. The profile says which stage owns the slow
    tail, what the machine did then, how far it is from its limit, and what the likely cause is. Ctrl-C stops the load,
    and what ran is profiled.

    A folder below reports/ keeps timeline.jsonl (one line a request), telemetry.jsonl, profile.json, report.html (one
    file, no network) and trace.json, which Perfetto opens.

    A server's key is read from SLIPSTREAM_LOADTEST_API_KEY and kept nowhere.

    Exit codes: 0 profiled · 1 no request succeeded · 2 cannot run, or the server tells no stage times.

    \b
    Example:
      slipstream profile run
      slipstream profile run default --rate 2 --duration 60
      slipstream profile run my.yaml --url http://127.0.0.1:8080 --json
      slipstream profile run --from var/reports/profile-20261122T101500-default
    """
    from slipstream.profiling.run.conclusion import conclude
    from slipstream.profiling.run.driving import drive
    from slipstream.profiling.run.folder import ProfileFolder
    from slipstream.profiling.run.terminal import lines
    from slipstream.profiling.run.writing import write

    if again is not None and (beside := _given(context) - {"again", "as_json"}):
        raise click.UsageError(f"--from draws a profile as it was; leave out: {', '.join(sorted(beside))}")
    settings = Settings()
    folder = drive(scenario, changes, url, settings, quiet=as_json) if again is None else ProfileFolder(again)
    profile = conclude(folder)
    write(profile, folder)
    if as_json:
        click.echo(json.dumps(profile.as_dict(), ensure_ascii=False, indent=2))
    else:
        for line in lines(profile, folder):
            click.echo(line)
    context.exit(0 if len(profile.timeline) else 1)


def _given(context: click.Context) -> set[str]:
    """The parameters that were typed."""
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


__all__ = ["run"]
