"""``slipstream profile ncu``."""

import json
from pathlib import Path
from typing import Any

import click

from slipstream import InputError
from slipstream.settings import Settings


@click.command()
@click.option(
    "--from",
    "made",
    type=click.Path(path_type=Path),
    help="Start nothing: read this report (.csv of the raw page, or .ncu-rep), made anywhere.",
)
@click.option("--bundle", help="Bundle to serve. [default: the active one]")
@click.option(
    "--range",
    "within",
    type=click.Choice(["decode", "prefill", "step", "none"]),
    default="decode",
    show_default=True,
    help="The server's NVTX range whose kernels are measured; none: all of them.",
)
@click.option("--launches", type=click.IntRange(1), default=400, show_default=True, help="Kernel launches to measure.")
@click.option("--skip", type=click.IntRange(0), default=400, show_default=True, help="Launches to let pass before.")
@click.option("--streams", type=click.IntRange(1, 256), default=8, show_default=True, help="Questions at a time.")
@click.option("--top", type=click.IntRange(1), default=15, show_default=True, help="Kernels to print.")
@click.option(
    "--max-time", type=click.FloatRange(1), default=1800, show_default=True, help="Seconds after which it ends."
)
@click.option("--dry-run", is_flag=True, help="Print the commands, for a machine with a GPU, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ncu(
    made: Path | None,
    bundle: str | None,
    within: Any,
    launches: int,
    skip: int,
    streams: int,
    top: int,
    max_time: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Measure the kernels of a decode step with Nsight Compute, against the card's roof.

    The server is started under ncu and asked questions until enough launches are measured; the report, its CSV and the
    result stay in a folder below reports/. Each kernel is replayed alone: what is measured is the kernel, and no
    request's time. For times, see slipstream profile nsys.

    \b
    Example:
      slipstream profile ncu
      slipstream profile ncu --dry-run > on-the-gpu-machine.sh
      slipstream profile ncu --from report.csv --top 30
    """
    from slipstream.profiling.ncu.capture import Plan
    from slipstream.profiling.ncu.script import script

    if made is not None and dry_run:
        raise InputError("--from reads and --dry-run prints: they are two things to do", "give one of them")
    plan = Plan(within, launches, skip, streams, max_time)
    if dry_run:
        text = script(plan, bundle)
        click.echo(json.dumps({"script": text}) if as_json else text)
        return
    folder = None
    if made is None:
        folder = _captured(plan, bundle, Settings())
        made = folder / "report.csv"
    _show(made, folder, top, as_json=as_json)


def _captured(plan: Any, bundle: str | None, settings: Settings) -> Path:
    """The folder with the report of a capture, and its CSV."""
    from slipstream.loadtest.folder import new_folder
    from slipstream.profiling.ncu.capture import REPORT, capture, options, server
    from slipstream.profiling.ncu.progress import shown
    from slipstream.profiling.ncu.tool import exported, find_ncu, require_gpu, tensor_metrics

    program = find_ncu()
    require_gpu()
    tensor = tensor_metrics(program)
    folder = new_folder(settings.root / "reports", "ncu", plan.range)
    command = [program, *options(plan, str(folder / REPORT), tensor), *server(bundle)]
    with shown(plan.launches) as watch:
        report = capture(command, folder, plan, settings.root, watch)
    (folder / "report.csv").write_text(exported(program, report), encoding="utf-8")
    return folder


def _show(made: Path, folder: Path | None, top: int, *, as_json: bool) -> None:
    from slipstream.profiling.ncu.kernels import kernels_of, missing
    from slipstream.profiling.ncu.rows import read_launches
    from slipstream.profiling.ncu.table import kernel_lines

    launches = read_launches(_text(made))
    kernels = kernels_of(launches)
    document = {
        "report": str(made),
        "launches": len(launches),
        "processes": sorted({launch.process for launch in launches}),
        "devices": sorted({launch.device for launch in launches}),
        "kernels": [kernel.document() for kernel in kernels],
        "not_measured": list(missing(kernels)),
    }
    if folder is not None:
        (folder / "kernels.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps(document))
        return
    for line in kernel_lines(kernels, top):
        click.echo(line)
    click.echo(f"report  {made}")


def _text(made: Path) -> str:
    """The CSV of a report; one of the tool's own files is exported first."""
    from slipstream.profiling.ncu.faults import ReportUnreadable
    from slipstream.profiling.ncu.rows import EXPORT
    from slipstream.profiling.ncu.tool import exported, find_ncu

    try:
        content = made.read_bytes()
    except OSError as error:
        raise ReportUnreadable(f"{made} cannot be read: {error.strerror}", "name a report") from error
    if made.suffix == ".ncu-rep":
        return exported(find_ncu(), made)
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"  # a shell on Windows
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ReportUnreadable(f"{made} is no text", f"export it: {EXPORT}") from error


__all__ = ["ncu"]
