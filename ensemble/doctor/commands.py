"""``slipstream doctor``."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

import click
import structlog

from slipstream.ensemble.doctor.finding import Finding, State
from slipstream.settings import Settings

_COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "problem": "red", "skipped": "dim"}


@click.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(ctx: click.Context, bundle: str | None, as_json: bool) -> None:
    """Say what stands between this machine and an answer served from BUNDLE, the active one by default.

    Looks at Python and its libraries, CPU, memory, disk, ports, Triton, the bundle and its signature, the index and
    the registry, and for a bundle that runs on GPUs at those. It changes nothing. Exit code 1: there is a problem;
    warnings and what was skipped are none.

    \b
    Example:
      slipstream doctor
      slipstream doctor 3f2a --json
    """
    from slipstream.ensemble.doctor.checks import CHECKS
    from slipstream.ensemble.doctor.examination import examine
    from slipstream.ensemble.doctor.finding import Subject

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    findings = examine(Subject(Settings(), bundle), CHECKS)
    problems = [found for found in findings if found.state == "problem"]
    if as_json:
        document = {"ready": not problems, "findings": [asdict(found) for found in findings]}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        _show(findings)
    ctx.exit(1 if problems else 0)


def _show(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("state", "check"):
        table.add_column(heading, no_wrap=True)
    table.add_column("evidence, and what to do", overflow="fold")
    for (state, evidence, remedy), alike in groupby(
        findings, lambda found: (found.state, found.evidence, found.remedy)
    ):
        said = Text(printable(evidence))
        if remedy:
            said.append(f"\n→ {printable(remedy)}", style="bold" if state == "problem" else "")
        table.add_row(Text(state, style=_COLOURS[state]), "\n".join(found.check for found in alike), said)
    console = Console()
    console.print(table)
    counted = {state: sum(found.state == state for found in findings) for state in ("problem", "warning")}
    told = [f"{number} {state}{'s' if number != 1 else ''}" for state, number in counted.items() if number]
    console.print(Text("\n" + (", ".join(told) or "nothing stands in the way"), style="bold"))


def printable(text: str) -> str:
    """``text`` with what would steer the terminal spelled out: paths and other programs' words are anybody's."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


__all__ = ["doctor"]
