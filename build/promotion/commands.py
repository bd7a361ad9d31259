"""``slipstream promote`` and ``slipstream rollback``."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from slipstream import GateError
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.build.promotion.comparison import Comparison
    from slipstream.build.promotion.promote import Promotion


class NotBetter(GateError):
    """The candidate was measured and not shown to be better."""


@click.command()
@click.argument("candidate")
@click.option("--recipe", default="default", show_default=True, help="What both adapters are built and asked with.")
@click.option(
    "--margin",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Accept a candidate that surely loses less than this share of the golden questions (non-inferiority).",
)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in MLflow with who, when and the numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def promote(candidate: str, recipe: str, margin: float, reason: str, as_json: bool) -> None:
    """Put the adapter CANDIDATE (models:/NAME/VERSION or models:/NAME@ALIAS) into production if it is better.

    Candidate and production answer the recipe's golden questions. The alias `production` and the tag
    `slipstream.channel` move when the 95% bootstrap interval of the mean paired difference lies above 0; what was in
    production stays behind the alias `rollback`. When nothing is in production yet, the candidate is measured and put
    there. Comparisons that end in a no are kept in MLflow as well.

    \b
    Exit codes: 0 in production · 1 not shown to be better · 2 cannot compare · 3 too few golden questions.

    \b
    Example:
      slipstream promote models:/code-assistant/7 --reason "trained on the October sources"
      slipstream promote models:/code-assistant@staging --margin 0.05 --json
    """
    from slipstream.build.promotion.evaluation import GoldenScores
    from slipstream.build.promotion.promote import promote as promote_adapter
    from slipstream.build.recipe import load_recipe
    from slipstream.build.registry import Registry
    from slipstream.build.training.commands import progress_bar

    settings = Settings()
    with progress_bar() as progress:
        evaluate = GoldenScores(load_recipe(recipe), settings, progress)
        done = promote_adapter(
            Registry(settings.registry_uri),
            candidate,
            evaluate,
            settings.cache_dir,
            margin=margin,
            reason=reason,
            facts={"recipe": recipe, "golden_set": evaluate.golden_set},
        )
    if as_json:
        click.echo(json.dumps(promotion_document(done), ensure_ascii=False))
    else:
        for line in promotion_lines(done):
            click.echo(line)
    if done.outcome == "refused" and done.comparison is not None:
        raise _not_better(done, done.comparison)


def promotion_document(done: "Promotion") -> dict[str, Any]:
    """For machines: every number, every question."""
    found = done.comparison
    return {
        "outcome": done.outcome,
        "model": done.model,
        "candidate": done.candidate,
        "production_before": done.production,
        "run_id": done.run_id,
        "score": sum(done.scores.values()) / len(done.scores) if done.scores else None,
        "comparison": found and {**asdict(found), "is_better": found.is_better},
    }


def promotion_lines(done: "Promotion") -> Iterator[str]:
    """For people: the comparison, and what came of it."""
    from slipstream.build.promotion.report import comparison_lines

    name = f"{done.model} version {done.candidate}"
    if done.comparison is not None:
        yield from comparison_lines(done.comparison, f"version {done.production}", f"version {done.candidate}")
    if done.outcome == "unchanged":
        yield f"{name} is in production already; nothing was compared"
    elif done.outcome == "first":
        score = sum(done.scores.values()) / len(done.scores)
        yield f"nothing was in production: {name} is now, uncompared; it scores {score:.3f} (run {done.run_id})"
    elif done.outcome == "promoted":
        yield f"{name} is in production; rollback goes to version {done.production} (run {done.run_id})"
    if done.outcome in ("first", "promoted"):
        yield "  to serve it: slipstream build RECIPE"


def _not_better(done: "Promotion", found: "Comparison") -> NotBetter:
    from slipstream.build.promotion.report import interval

    reached = f"-{found.margin}" if found.margin else "0"
    return NotBetter(
        f"version {done.candidate} of {done.model!r} is not shown to be better than version {done.production}: "
        f"{interval(found)} of the difference reaches down to {reached}; production stays (run {done.run_id})",
        "see which questions it lost; more golden questions narrow the interval; --margin accepts a bounded loss",
    )


@click.command()
@click.option("--name", default="code-assistant", show_default=True, help="Registered model to roll back.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in MLflow with who and when.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rollback(name: str, reason: str, as_json: bool) -> None:
    """Undo the last promotion: both aliases, `production` and `rollback`, go back to where they were before it.

    Run it again to undo the promotion before that one. Servers keep serving their bundle until one is built with the
    adapter that is in production then.

    \b
    Example:
      slipstream rollback --reason "answers got longer"
      slipstream build default
    """
    from slipstream.build.promotion.promote import roll_back
    from slipstream.build.registry import Registry

    settings = Settings()
    done = roll_back(Registry(settings.registry_uri), name, settings.cache_dir, reason)
    if as_json:
        click.echo(json.dumps(asdict(done), ensure_ascii=False))
        return
    further = f"a further rollback goes to version {done.rollback}" if done.rollback else "there is nothing before it"
    withdrawn = f"in place of version {done.withdrawn}" if done.withdrawn else "where there was none"
    click.echo(f"{name} version {done.production} is in production again, {withdrawn}; {further} (run {done.run_id})")
    click.echo("  to serve it: slipstream build RECIPE")


__all__ = ["NotBetter", "promote", "rollback"]
