"""``slipstream compare``."""

import shlex
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream import InputError, SlipstreamError, __version__
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.loadtest.comparison.record import Record, RunRecord
    from slipstream.loadtest.comparison.sides import Side
    from slipstream.loadtest.comparison.verdict import Outcome
    from slipstream.loadtest.scenario import Scenario

ROUNDS, MARGIN = 8, 0.05
GOLDEN = "sample:fastapi-starlette"


class Share(click.ParamType[float]):
    """``5%`` or ``0.05``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is no share between 0 and 1; write 5% or 0.05", param, ctx)
        return share


@dataclass(frozen=True)
class Asked:
    """What a comparison is to be."""

    scenario: "Scenario"
    rounds: int
    margin: float
    golden: str
    tokenizer: Path | None


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--scenario", help="A YAML file, or the name of a shipped one. [default: default]")
@click.option(
    "--rounds", type=click.IntRange(min=1, max=500), help=f"Pairs of runs, A B, B A, and so on. [default: {ROUNDS}]"
)
@click.option("--margin", type=Share(), help="How much worse B may be. [default: 5%]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first round; each round has another.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Arrivals per second.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds of a run after its warm-up.")
@click.option("--requests", type=click.IntRange(min=1), help="Arrivals of a run at most, the warm-up's among them.")
@click.option("--model", help="Model to ask for; slipstream-base is the engine without retrieval.")
@click.option("--golden", help=f"Golden set that is asked after each run, none for no judging. [default: {GOLDEN}]")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="tokenizer.json of both. [default: the bundle's]")
@click.option("--from", "again", type=click.Path(path_type=Path), help="Conclude this comparison; with --rounds go on.")
@click.option("--json", "as_json", is_flag=True, help="Print comparison.json.")
@click.pass_context
def compare(
    context: click.Context,
    /,
    a: str | None,
    b: str | None,
    scenario: str | None,
    rounds: int | None,
    margin: float | None,
    golden: str | None,
    tokenizer: Path | None,
    again: Path | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Say whether B is worse than A: two bundles (id, path or release name), two servers (URL), or one of each.

    Both are put under the same load in turn, A B, B A, for several rounds; a bundle is served for each of its runs,
    and the active one stays active. The run is the unit: effects and their intervals come from a bootstrap of pairs of
    runs. Answers are judged beside the speed, so a bundle that answers less or worse cannot win. Runs, comparison.json
    and an HTML report are kept in a folder below reports/. Ctrl-C concludes what is complete.

    Exit codes: 0 B is proven to be no worse than the margin · 1 a regression beyond the margin · 2 cannot run, or a run
    is void · 3 too few rounds to tell.

    \b
    Example:
      slipstream compare 75e68665 fe8a7c45
      slipstream compare 75e68665 41a0ff70 --duration 30 --margin 10%
      slipstream compare http://127.0.0.1:8080 http://127.0.0.1:8081 --scenario closed-8
      slipstream compare --from var/reports/compare-20261122T101500-75e68665-fe8a7c45 --rounds 14
    """
    from slipstream.loadtest.comparison.output.terminal import lines
    from slipstream.loadtest.comparison.record import Record
    from slipstream.loadtest.preparation import changed

    settings = Settings()
    if again is not None:
        if a or b or scenario or golden or tokenizer or any(value is not None for value in changes.values()):
            raise InputError("--from goes with --rounds, --margin and --json only", "leave the others out")
        record = taken_up(Record.read(again), rounds, margin)
        goes_on = rounds is not None
    else:
        if not a or not b:
            raise click.UsageError("Give A and B: two bundles or URLs.", context)
        load = changed(scenario or "default", changes)
        judged_by = "" if golden == "none" else golden or GOLDEN
        record = begun(settings, a, b, Asked(load, rounds or ROUNDS, margin or MARGIN, judged_by, tokenizer))
        goes_on = True
    if goes_on:
        record = ran(record, settings, quiet=as_json)
    outcome = conclude(record)
    if as_json:
        click.echo(record.json.read_text(encoding="utf-8"), nl=False)
    else:
        for line in lines(record, outcome):
            click.echo(line)
    context.exit(outcome.exit_code)


def begun(settings: Settings, a: str, b: str, asked: Asked) -> "Record":
    """A comparison in a new folder, after everything was looked at that can be wrong before the first run.

    Raises:
        SideInvalid, ServerAway, InputError: see `resolve`, `check_pair`, `read_keys` and `draw`.
    """
    from slipstream.loadtest.comparison.quality import read_keys
    from slipstream.loadtest.comparison.record import Record
    from slipstream.loadtest.comparison.sides import check_pair, resolve
    from slipstream.loadtest.folder import host_facts, new_folder

    sides = resolve("A", a, settings.bundles_dir), resolve("B", b, settings.bundles_dir)
    notes = check_pair(*sides, asked.scenario.model)
    if asked.golden:
        read_keys(asked.golden)
    for side in sides:
        _check(side, asked, settings)
    name = "-".join(side.name.replace(":", "-").replace("[", "").replace("]", "") for side in sides)
    record = Record(
        root=new_folder(settings.home / "reports", "compare", name),
        a=sides[0],
        b=sides[1],
        scenario=asked.scenario,
        rounds=asked.rounds,
        margin=asked.margin,
        golden=asked.golden,
        tokenizer="" if asked.tokenizer is None else str(asked.tokenizer.absolute()),
        started_at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        version=__version__,
        host=host_facts(),
        notes=notes,
        commands=(_typed(),),
    )
    record.write()
    return record


def _check(side: "Side", wanted: Asked, settings: Settings) -> None:
    """Whether its server answers, and whether its load can be drawn: before any run, not in the middle of them."""
    from slipstream.loadtest.preparation import asked
    from slipstream.loadtest.schedule.plan import draw
    from slipstream.loadtest.schedule.tokens import find_tokenizer

    metadata = asked(side.url) if side.url else None
    path = wanted.tokenizer or side.tokenizer
    draw(wanted.scenario, find_tokenizer(path, metadata, settings.bundles_dir))


def _typed() -> str:
    return shlex.join(["slipstream", *sys.argv[1:]])


def taken_up(record: "Record", rounds: int | None, margin: float | None) -> "Record":
    """A comparison that was begun before, with another number of rounds or another margin.

    Raises:
        InputError: rounds that ran would be left out.
    """
    begun = max((run.round for run in record.runs), default=0)
    if rounds is not None and rounds < begun:
        raise InputError(
            f"{begun} rounds were begun already, and none is left out of a comparison", f"give --rounds {begun} or more"
        )
    return replace(
        record,
        rounds=rounds or record.rounds,
        margin=margin or record.margin,
        commands=(*record.commands, _typed()) if rounds else record.commands,
    )


def ran(record: "Record", settings: Settings, *, quiet: bool) -> "Record":
    """Do the runs that are left; what ended before an error is concluded before the error is told."""
    from slipstream.loadtest.comparison.output.terminal import expectation, remaining, run_line
    from slipstream.loadtest.comparison.record import Record
    from slipstream.loadtest.comparison.rounds import Turn, left, run_all
    from slipstream.loadtest.terminal import shown

    rounds = record.rounds

    def said(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    def watched(turn: Turn) -> Any:
        return shown(quiet=quiet, name=f"round {turn.round}/{rounds} {turn.letter}")

    def told(record: "Record", run: "RunRecord") -> None:
        said(f"  {run_line(run)}{remaining(record, len(left(record)))}")

    said(expectation(record, len(left(record))))
    try:
        return run_all(record, settings, watched, told)
    except SlipstreamError:
        so_far = Record.read(record.root)
        if so_far.pairs():
            conclude(so_far)
        raise


def conclude(record: "Record") -> "Outcome":
    """The verdict on the complete rounds, written into the folder in every form.

    Raises:
        InputError: no round is complete.
    """
    from slipstream.loadtest.comparison.output.report import render_comparison
    from slipstream.loadtest.comparison.verdict import judge_pairs

    if not record.pairs():
        record.write()
        raise InputError(
            f"no round of {record.root} has both of its runs", f"slipstream compare --from {record.root} --rounds N"
        )
    outcome = judge_pairs(record.values(), record.margin)
    record.write(outcome)
    record.report.write_text(render_comparison(record, outcome), encoding="utf-8")
    return outcome


__all__ = ["ROUNDS", "compare", "conclude"]
