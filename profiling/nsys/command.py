"""``slipstream profile nsys``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipstream import InputError
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.profiling.nsys.capture import CaptureFolder
    from slipstream.profiling.nsys.results import Reading

WINDOW_S = 20.0


@click.command()
@click.option("--scenario", default="default", show_default=True, help="A YAML file, or the name of a shipped one.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=WINDOW_S,
    show_default=True,
    help="Seconds to capture after the warm-up, at most.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Arrivals per second.")
@click.option("--bundle", help="Bundle to serve (path, id or release name). [default: the active one]")
@click.option("--session", help="Capture a server that was begun in this session of nsys; with --url.")
@click.option("--url", help="Where that server answers.")
@click.option(
    "--from", "again", type=click.Path(path_type=Path), help="Read this folder, .nsys-rep or .sqlite; capture nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the reading as one JSON document.")
def nsys(
    scenario: str,
    duration: float,
    rate: float | None,
    bundle: str | None,
    session: str | None,
    url: str | None,
    again: Path | None,
    as_json: bool,
) -> None:
    """Capture a window of a load with Nsight Systems, and say what each stage did in it.

    The server is started under nsys on free ports, asked by SCENARIO, captured after the warm-up and stopped. nsys
    cannot attach to a process that it did not start; a server that shall stay is begun once with
    `nsys launch --session-new=slipstream --trace=nvtx,osrt slipstream serve`, on a machine with a GPU
    `nsys launch --session-new=slipstream --trace=nvtx,osrt,cuda --cuda-graph-trace=node slipstream serve`, and captured
    with --session and --url as often as you like.

    The report (capture.nsys-rep, which nsys-ui opens), its SQLite export and reading.json are kept in
    reports/profile-TIME-SCENARIO/nsys/. Ctrl-C ends the load, and what was captured is read. A capture of another
    machine is read with --from.

    \b
    Example:
      slipstream profile nsys --scenario smoke
      slipstream profile nsys --duration 30 --rate 2
      slipstream profile nsys --session slipstream --url http://127.0.0.1:8080
      slipstream profile nsys --from capture.nsys-rep --json
    """
    if url and not session:
        from slipstream.profiling.nsys.session import launch_hint

        begin = f"begin it with {launch_hint()}, and add --session slipstream; or leave --url out"
        raise InputError("nsys cannot attach to a server that it did not start", begin)
    if session and not url:
        raise InputError("--session goes with --url", "add --url http://HOST:PORT, where its server answers")
    if session and bundle:
        raise InputError("--session captures a server that runs already, with its bundle", "leave --bundle out")
    from slipstream.profiling.nsys.again import read_again

    reading, folder = (
        read_again(again) if again else _captured(scenario, duration, rate, bundle, session, url, quiet=as_json)
    )
    if as_json:
        click.echo(reading.to_json(), nl=False)
        return
    from slipstream.profiling.nsys.terminal import lines

    for line in lines(reading):
        click.echo(line)
    if folder is not None:
        report = f"report   {folder.report}\n" if folder.report.is_file() else ""
        click.echo(f"\n{report}reading  {folder.reading}")


def _captured(
    scenario: str,
    duration: float,
    rate: float | None,
    bundle: str | None,
    session: str | None,
    url: str | None,
    *,
    quiet: bool,
) -> "tuple[Reading, CaptureFolder]":
    from slipstream.loadtest.folder import new_folder
    from slipstream.loadtest.preparation import changed
    from slipstream.loadtest.terminal import shown
    from slipstream.profiling.nsys.capture import CaptureFolder, Wanted, capture, read
    from slipstream.profiling.nsys.tool import find

    found, settings = find(), Settings()
    loaded = changed(scenario, {"rate": rate}).model_copy(update={"stage_times": "spans"})  # for the ids in them
    folder = _bundle(bundle, settings) if bundle else ""
    wanted = Wanted(loaded, duration, folder, session or "", url or "")
    into = CaptureFolder(new_folder(settings.home / "reports", "profile", loaded.name) / "nsys")
    with shown(quiet=quiet) as watch:
        capture(found, wanted, settings, into, watch)
    return read(found, into), into


def _bundle(given: str, settings: Settings) -> str:
    from slipstream.loadtest.comparison.sides import resolve

    side = resolve("A", given, settings.bundles_dir)
    if not side.bundle:
        raise InputError(f"{given!r} is a server and no bundle", "give it as --url, with --session")
    return side.bundle


__all__ = ["nsys"]
