"""What a load test shows on a terminal: how far it is, and what it came to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from slipstream.loadtest.folder import Folder
    from slipstream.loadtest.results.metrics import Metrics
    from slipstream.loadtest.results.verdict import Result
    from slipstream.loadtest.run import State, Watch

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "VOID": "magenta"}


@contextmanager
def shown(*, quiet: bool, name: str = "load") -> "Iterator[Watch]":
    """A bar on a terminal that says how far the run is; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda state: None
        return
    columns = (TextColumn(name), BarColumn(32), TimeElapsedColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=None, said="starting")

        def watch(state: "State") -> None:
            said = f"{state.sent} sent, {state.in_flight} in flight, {state.errors} errors"
            progress.update(task, total=state.planned, completed=state.ended, said=said)

        yield watch


def lines(result: "Result", folder: "Folder") -> Iterator[str]:
    """The result for people: verdict, SLOs, what stands beside them, latencies, files."""
    verdict = result.verdict or "no SLO was given"
    yield click.style(verdict, fg=COLOURS.get(verdict), bold=True)
    for slo in result.slos:
        yield f"  {slo.sentence}"
    for check in result.void_because:
        yield click.style(f"  void: {check.message}", fg="magenta")
    for warning in result.warnings:
        yield click.style(f"  warning: {warning}", fg="yellow")
    yield ""
    yield from _table(result.metrics)
    yield from (one.sentence for one in result.achieved)
    yield ""
    yield f"report   {folder.report}"
    yield f"samples  {folder.samples}"


_NAMES = {
    "ttft_scheduled": "TTFT, since scheduled, ms",
    "ttft": "TTFT, since sent, ms",
    "tpot": "TPOT, ms",
    "itl": "ITL, ms",
    "e2e": "end-to-end, ms",
    "lag": "send lag, ms",
}


def _table(metrics: "Metrics") -> Iterator[str]:
    """Percentiles of every latency, then counts and rates."""
    counts, rates = metrics.counts, metrics.rates
    yield f"{'':28}{'p50':>10}{'p90':>10}{'p95':>10}{'p99':>10}"
    for key, name in _NAMES.items():
        found = metrics.latencies.get(key)
        if found is not None:
            yield f"{name:28}" + "".join(f"{one.value:10,.1f}" for one in found.percentiles)
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.errors_by_kind.items()) or "none"
    yield f"{'requests':28}{counts.counted:10,} counted of {counts.measured:,} measured; errors: {kinds}"
    if rates is not None:
        yield f"{'output tokens/s':28}{rates.output_tokens_per_s:10,.1f}"
        yield f"{'requests/s':28}{rates.requests_per_s:10,.2f}"


__all__ = ["COLOURS", "lines", "shown"]
