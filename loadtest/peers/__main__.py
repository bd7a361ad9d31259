"""``python -m slipstream.loadtest.peers``."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from slipstream import InputError, SlipstreamError
from slipstream.settings import Settings


class NoModelFile(InputError):
    """There is no GGUF file of the bundle's base model."""


@click.command()
@click.argument("scenarios", nargs=-1)
@click.option("--rounds", type=click.IntRange(min=1), default=6, show_default=True, help="Of each scenario.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Arrivals per second.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds of a run after its warm-up.")
@click.option("--requests", type=click.IntRange(min=1), help="Arrivals of a run at most, the warm-up's among them.")
@click.option("--bundle", help="Id, release name or path. [default: the active bundle]")
@click.option("--gguf", type=click.Path(path_type=Path), help="The peer's model. [default: the bundle's base model]")
@click.option("--threads", type=click.IntRange(min=1), help="Of the peer. [default: every core]")
@click.option("--into", type=click.Path(path_type=Path), help="Folder of the runs; what is there is not run again.")
def main(
    scenarios: Sequence[str],
    rounds: int,
    bundle: str | None,
    gguf: Path | None,
    threads: int | None,
    into: Path | None,
    **changes: float | None,
) -> None:
    """Measure llama-server beside Slipstream under the same load, and print one table for each scenario.

    SCENARIOS are YAML files or names of shipped ones; chat-shape and rag-closed-2 by default. Each server runs alone,
    in turn, A B, B A; llama-server is compiled first if it is not there (minutes, once; needs a C++ compiler). Both
    serve the same base model at 4 bits: the peer its GGUF file, Slipstream the engine of the bundle. Runs and tables
    are kept in a folder below reports/.

    \b
    Example:
      python -m slipstream.loadtest.peers
      python -m slipstream.loadtest.peers chat-shape --duration 20 --rounds 6
    """
    from slipstream.loadtest.comparison.sides import resolve
    from slipstream.loadtest.folder import new_folder
    from slipstream.loadtest.peers.llama_cpp import VERSION, llama_server
    from slipstream.loadtest.peers.rounds import Contest, run_rounds
    from slipstream.loadtest.peers.table import facts, table
    from slipstream.loadtest.preparation import changed
    from slipstream.loadtest.terminal import shown

    settings = Settings()
    side = resolve("A", bundle or _active(settings), settings.bundles_dir)
    loads = [changed(name, changes) for name in scenarios or ("chat-shape", "rag-closed-2")]
    contest = Contest(
        bundle=side,
        tokenizer=Path(side.bundle) / "tokenizer",
        program=llama_server(settings.cache_dir / "peer"),
        gguf=gguf or model_file(Path(side.bundle), settings.cache_dir / "models"),
        threads=threads or len(os.sched_getaffinity(0)),
        settings=settings,
        root=into or new_folder(settings.home / "reports", "peers", side.bundle_id),
    )
    peer = f"llama-server of llama-cpp-python {VERSION}, {contest.gguf.name}"
    for load in loads:
        runs = []
        with shown(quiet=False, name=load.name) as watch:
            for run in run_rounds(contest, load, rounds, watch):
                runs.append(run)
                click.echo(f"{load.name} round {run.round} {run.name}", err=True)
        told = "\n".join([f"### {load.name}\n", table(runs), "", *(f"- {line}" for line in (*facts(runs), peer)), ""])
        (contest.root / load.name / "table.md").write_text(told, encoding="utf-8")
        click.echo(told)
    click.echo(f"runs in {contest.root}")


def _active(settings: Settings) -> str:
    try:
        return (settings.bundles_dir / "ACTIVE").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"no bundle is active in {settings.bundles_dir}", "slipstream build default") from error


def model_file(bundle: Path, models: Path) -> Path:
    """The GGUF file that the base model of ``bundle`` was read from, in the build's cache.

    Raises:
        NoModelFile: there is none, or more than one.
    """
    named = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["lineage"]["base_model"]
    scheme, _, name = str(named).partition(":")
    found = sorted((models / scheme / name).rglob("*.gguf")) if name else []
    if len(found) != 1:
        raise NoModelFile(
            f"{named} has {len(found)} GGUF files below {models}, and llama-server reads nothing else",
            "name one with --gguf",
        )
    return found[0]


if __name__ == "__main__":
    try:
        main()
    except SlipstreamError as error:
        click.echo(f"error: {error.message}\n  try: {error.remedy}", err=True)
        sys.exit(error.exit_code)
