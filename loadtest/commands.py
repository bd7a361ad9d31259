"""``slipstream loadtest``."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from slipstream.loadtest.preparation import ServerAway, asked, changed, prepare
from slipstream.loadtest.terminal import lines, shown
from slipstream.settings import Settings


@click.command()
@click.argument("scenario", default="default")
@click.option("--url", help="Server to load. [default: the appliance on this machine]")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Arrivals per second, instead of the scenario's."
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after the warm-up; with --find-capacity, of each point at least.  [then: 30]",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    help="Arrivals at most, the warm-up's among them; with --find-capacity, measured ones of each point.  "
    "[then: what proves each SLO with 5 misses]",
)
@click.option("--model", help="Model to ask for.")
@click.option("--seed", type=click.IntRange(min=0), help="Draws every moment, prompt and length.")
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), help="tokenizer.json of the server. [default: the bundle's]"
)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that send.")
@click.option("--find-capacity", is_flag=True, help="Search the highest rate that holds every SLO.")
@click.option(
    "--precision",
    type=click.FloatRange(min=0.02, max=1),
    help="How near the rate is found, as a share of it.  [default: 0.1]",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds of a search; no point begins that would end later.  [default: 1800]",
)
@click.option(
    "--from",
    "again",
    type=click.Path(path_type=Path),
    help="Send nothing: conclude the run in this folder anew. With --find-capacity: go on with the search there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.pass_context
def loadtest(
    context: click.Context,
    /,
    scenario: str,
    url: str | None,
    again: Path | None,
    tokenizer: Path | None,
    processes: int,
    find_capacity: bool,
    precision: float | None,
    max_time: float | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Put SCENARIO (a YAML file, or the name of a shipped one) on a server and say whether it holds its SLOs.

    The whole schedule is drawn from the seed before the first request; a late answer never delays the next arrival.
    Ctrl-C or SIGTERM stops the load, and what ran is judged. Samples, result (JSON, JUnit, CSV) and an HTML report are
    kept in a folder below reports/.

    With --find-capacity the rate is searched, from the scenario's on: doubled or halved until one rate holds and one
    does not, then bisected. Each rate runs until the test of every SLO can tell; one that is refuted for certain, or
    whose queue only grows, is stopped early. Ctrl-C concludes what ran, and --from goes on with it.

    A server's key is read from SLIPSTREAM_LOADTEST_API_KEY and kept nowhere.

    Exit codes: 0 every SLO proven, or none given · 1 an SLO refuted, or no request succeeded · 2 cannot run, or the
    run is void · 3 too few requests to tell. With --find-capacity: 0 found · 1 not even the lowest rate holds · 3 not
    found yet.

    \b
    Example:
      slipstream loadtest
      slipstream loadtest smoke --url http://127.0.0.1:8080
      slipstream loadtest default --rate 2 --duration 300
      slipstream loadtest default --find-capacity --max-time 900
      slipstream loadtest --from var/reports/loadtest-20261122T101500-default
    """
    from slipstream.loadtest.capacity.command import Wanted, capacity, is_search
    from slipstream.loadtest.folder import Folder
    from slipstream.loadtest.run import conclude, generate

    if again is not None and not find_capacity and (beside := _given(context) - {"again", "as_json"}):
        raise click.UsageError(f"--from concludes a run as it was; leave out: {', '.join(sorted(beside))}")
    settings = Settings()
    if find_capacity or (again is not None and is_search(again)):
        wanted = Wanted(
            scenario, changes, url, tokenizer, processes, precision, max_time, again, find_capacity, as_json
        )
        context.exit(capacity(wanted, settings))
    if precision or max_time:
        raise click.UsageError("--precision and --max-time belong to --find-capacity")
    if again is not None:
        folder = Folder(again)
    else:
        loaded = changed(scenario, changes)
        target = url or f"http://{settings.host}:{settings.port}"
        folder = prepare(loaded, target, settings, tokenizer)
        with shown(quiet=as_json) as watch:
            generate(folder, target, watch, processes=processes)
    result = conclude(folder)
    if as_json:
        click.echo(folder.result.read_text(encoding="utf-8"), nl=False)
    else:
        for line in lines(result, folder):
            click.echo(line)
    context.exit(result.exit_code)


def _given(context: click.Context) -> set[str]:
    """The parameters that were typed."""
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


__all__ = ["ServerAway", "asked", "changed", "loadtest", "prepare", "shown"]
