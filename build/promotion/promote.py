"""What a user asks for: promote a candidate if it is better, and undo that."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from slipstream import InputError
from slipstream.build.mlflow_client import open_client
from slipstream.build.promotion.comparison import Comparison, Scores, check_margin, check_scores, compare
from slipstream.build.promotion.journal import Evidence, Move, check_reason, read, write
from slipstream.build.promotion.moves import PROMOTED_BY, carry_out, recover
from slipstream.build.promotion.standing import Standing, exists, standing
from slipstream.build.registry import RegisteredAdapter, Registry

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Outcome = Literal["promoted", "first", "unchanged", "refused"]

_NO_FACTS: Mapping[str, str] = MappingProxyType({})


class BaseModelDiffers(InputError):
    """Candidate and production are adapters of different base models."""


class SameBytes(InputError):
    """The candidate is what is in production, under another version."""


class NoRollback(InputError):
    """There is nothing to go back to."""


class Evaluate(Protocol):
    """Answers the golden questions with the adapter at ``models:/<name>/<version>``."""

    def __call__(self, reference: str) -> Scores: ...


@dataclass(frozen=True)
class Promotion:
    """How it ended.

    Attributes:
        outcome: ``promoted``; ``first`` (nothing was in production, so that nothing was compared); ``unchanged`` (it
            is in production already); ``refused`` (it was not shown to be better).
        run_id: the run in MLflow that says so; empty when ``unchanged``.
    """

    outcome: Outcome
    model: str
    candidate: str
    production: str | None
    comparison: Comparison | None
    scores: Scores
    run_id: str


@dataclass(frozen=True)
class Rollback:
    """``withdrawn`` made way for ``production``; ``rollback`` is what a further one would go back to."""

    model: str
    withdrawn: str | None
    production: str
    rollback: str | None
    run_id: str


def promote(
    registry: Registry,
    reference: str,
    evaluate: Evaluate,
    cache_dir: Path,
    *,
    margin: float = 0.0,
    reason: str = "",
    facts: Mapping[str, str] = _NO_FACTS,
) -> Promotion:
    """Compare the adapter at ``reference`` with the one in production and let it take the place if it is better.

    A refusal is recorded like a promotion. A version that is in production already stays there, uncompared.

    Args:
        margin: see `compare`.
        facts: what the evaluation was made with, for the record: the golden set, the recipe.

    Raises:
        MarginInvalid: see `check_margin`.
        BaseModelDiffers, SameBytes: there is no comparison to make.
        TooFewQuestions, ScoresUnfit: see `compare`; nothing is recorded.
        ProductionMoved, PromotionUnderWay: somebody else was faster; nothing was moved.
        InputError, EnvironmentFault: see `check_reason` and `Registry.resolve`, and whatever ``evaluate`` raises.
    """
    check_reason(reason)
    check_margin(margin)
    candidate = registry.resolve(reference, cache_dir)
    with open_client(registry.uri) as client:
        recover(client, registry.uri, candidate.name)
        before = standing(client, candidate.name)
    if before.production == candidate.version:
        return Promotion("unchanged", candidate.name, candidate.version, before.production, None, {}, "")
    if before.production is not None:
        _require_comparable(candidate, registry.resolve(_reference(candidate.name, before.production), cache_dir))
    scores = evaluate(_reference(candidate.name, candidate.version))
    check_scores(scores, "candidate")
    found = None
    if before.production is not None:
        found = compare(scores, evaluate(_reference(candidate.name, before.production)), margin)
    is_fit = found is None or found.is_better
    kept = before.production or (before.rollback if before.rollback != candidate.version else None)
    move = Move("promotion", candidate.name, before, Standing(candidate.version, kept))
    evidence = Evidence(reason, found, scores, {**facts, "candidate_version": candidate.version})
    with open_client(registry.uri) as client:
        entry = write(client, registry.uri, move, evidence, "recorded" if is_fit else "refused")
        if is_fit:
            carry_out(client, registry.uri, entry)
    outcome: Outcome = "refused" if not is_fit else "first" if found is None else "promoted"
    return Promotion(outcome, candidate.name, candidate.version, before.production, found, scores, entry.run_id)


def roll_back(registry: Registry, model: str, cache_dir: Path, reason: str = "") -> Rollback:
    """Undo the last promotion of ``model``: both aliases go back to where they were before it.

    Once more undoes the one before, for as long as the journal and the versions reach.

    Raises:
        NoRollback: there is no version to go back to.
        AdapterChanged: what would be gone back to is damaged; nothing was moved.
        ProductionMoved, PromotionUnderWay: somebody else was faster; nothing was moved.
        ReasonInvalid, NoSuchModel, RegistryUnavailable: see `check_reason` and `Registry.resolve`.
    """
    check_reason(reason)
    with open_client(registry.uri) as client:
        recover(client, registry.uri, model)
        before = standing(client, model)
    if before.rollback is None or before.rollback == before.production:
        raise NoRollback(
            f"{model!r} has no version to go back to: production is version {before.production or 'none'}",
            f"name one yourself: slipstream promote models:/{model}/VERSION",
        )
    registry.resolve(_reference(model, before.rollback), cache_dir)
    with open_client(registry.uri) as client:
        move = Move("rollback", model, before, Standing(before.rollback, _further_back(client, model, before)))
        entry = write(client, registry.uri, move, Evidence(reason), "recorded")
        carry_out(client, registry.uri, entry)
    return Rollback(model, before.production, before.rollback, move.after.rollback, entry.run_id)


def _further_back(client: "MlflowClient", model: str, now: Standing) -> str | None:
    """What ``rollback`` named before the promotion that is undone; None if nobody knows, or it was deleted."""
    if now.production is None:
        return None
    run_id = client.get_model_version(model, now.production).tags.get(PROMOTED_BY)
    entry = read(client, run_id) if run_id else None
    if entry is None or entry.move.model != model or entry.move.after != now:
        return None
    earlier = entry.move.before.rollback
    return earlier if earlier is not None and exists(client, model, earlier) else None


def _require_comparable(candidate: RegisteredAdapter, production: RegisteredAdapter) -> None:
    if candidate.sha256 == production.sha256:
        raise SameBytes(
            f"version {candidate.version} of {candidate.name!r} holds the same bytes as version {production.version}, "
            "which is in production",
            "promote an adapter that differs",
        )
    for mine, theirs in (
        (candidate.base_model_sha256, production.base_model_sha256),
        (candidate.base_model, production.base_model),
    ):
        if mine and theirs:
            if mine == theirs:
                return
            raise BaseModelDiffers(
                f"version {candidate.version} of {candidate.name!r} adapts {candidate.base_model}, "
                f"version {production.version} in production adapts {production.base_model}",
                "register adapters of another base model under a name of their own, with a recipe of their own",
            )


def _reference(name: str, version: str) -> str:
    return f"models:/{name}/{version}"


__all__ = [
    "BaseModelDiffers", "Evaluate", "NoRollback", "Outcome", "Promotion", "Rollback", "SameBytes", "promote",
    "roll_back",
]  # fmt: skip
