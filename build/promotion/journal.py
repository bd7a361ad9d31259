"""What was decided, kept in MLflow: one run for each promotion, refusal and rollback.

A run says who, when and why (parameters), the numbers (metrics) and every question's scores (artifacts). It is written
before anything moves and says from where to where, so that a move that was killed can be finished or taken back by
whoever comes next.
"""

import csv
import getpass
import io
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from slipstream import InputError
from slipstream.build.mlflow_client import experiment_id
from slipstream.build.promotion.comparison import CONFIDENCE, RESAMPLES, SEED, Comparison, Scores
from slipstream.build.promotion.report import comparison_markdown
from slipstream.build.promotion.standing import Standing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Kind = Literal["promotion", "rollback"]
State = Literal["recorded", "moving", "done", "refused", "abandoned"]

_KIND, _MODEL, _STATE = "slipstream.kind", "slipstream.promotion.model", "slipstream.promotion.state"
_PLACES = (
    "slipstream.promotion.production_before",
    "slipstream.promotion.rollback_before",
    "slipstream.promotion.production_after",
    "slipstream.promotion.rollback_after",
)
_STATUS = {"done": "FINISHED", "refused": "FINISHED", "abandoned": "KILLED"}
_LONGEST_REASON = 5000


class ReasonInvalid(InputError):
    """MLflow could not keep that reason."""


@dataclass(frozen=True)
class Move:
    """Both aliases of ``model``, before and after."""

    kind: Kind
    model: str
    before: Standing
    after: Standing


@dataclass(frozen=True)
class Entry:
    """A move in the journal; ``started_ms`` since the epoch, by the clock of who wrote it."""

    run_id: str
    started_ms: int
    by: str
    move: Move

    @property
    def turn(self) -> tuple[int, str]:
        """Whose turn it is when two want to move at once: the smaller."""
        return self.started_ms, self.run_id


@dataclass(frozen=True)
class Evidence:
    """Why: in words, and in numbers where something was measured. ``facts`` name what it was measured with."""

    reason: str = ""
    comparison: Comparison | None = None
    scores: Scores = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def check_reason(reason: str) -> None:
    """Refuse what MLflow could not keep, before any work.

    Raises:
        ReasonInvalid: it is too long, or no text.
    """
    if len(reason) > _LONGEST_REASON or reason != reason.encode(errors="ignore").decode():
        raise ReasonInvalid("the reason cannot be kept", f"give a --reason of at most {_LONGEST_REASON} characters")


def whoami() -> str:
    """``user@host`` of this process; a user without a name has a number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def write(client: "MlflowClient", uri: str, move: Move, evidence: Evidence, state: State) -> Entry:
    """Keep ``move`` and its evidence as a run of its own."""
    from mlflow.entities import Metric, Param

    by, now = whoami(), datetime.now(UTC)
    places = (move.before.production, move.before.rollback, move.after.production, move.after.rollback)
    tags = {_KIND: move.kind, _MODEL: move.model, "mlflow.user": by.partition("@")[0]}
    tags |= {key: version or "" for key, version in zip(_PLACES, places, strict=True)}
    run = client.create_run(experiment_id(client, uri), run_name=f"{move.kind} {move.model}", tags=tags)
    run_id, started_ms = run.info.run_id, run.info.start_time
    said = {"by": by, "when": now.isoformat(timespec="seconds"), "reason": evidence.reason}
    said |= {"model": move.model, "production_before": places[0] or "", "production_after": places[2] or ""}
    known = {**evidence.facts, **said, **_method(evidence.comparison)}
    # The path of a recipe need not be UTF-8, and what a database keeps has to be.
    params = [Param(key, value.encode(errors="backslashreplace").decode()) for key, value in known.items()]
    metrics = [Metric(key, value, started_ms, 0) for key, value in _numbers(evidence).items()]
    client.log_batch(run_id, metrics, params)
    if evidence.comparison is not None:
        client.log_text(run_id, comparison_markdown(evidence.comparison), "comparison.md")
    if table := _table(evidence):
        client.log_text(run_id, table, "questions.csv")
    set_state(client, run_id, state)
    return Entry(run_id, started_ms, by, move)


def set_state(client: "MlflowClient", run_id: str, state: State) -> None:
    """Say how far the move of ``run_id`` is; the last states end the run."""
    client.set_tag(run_id, _STATE, state)
    if state in _STATUS:
        client.set_terminated(run_id, _STATUS[state])


def moving(client: "MlflowClient", uri: str, model: str) -> list[Entry]:
    """Every move of ``model`` that began and has not ended, the first first."""
    runs = client.search_runs([experiment_id(client, uri)], f"tags.`{_STATE}` = 'moving'", max_results=1000)
    entries = (_entry(run) for run in runs if run.data.tags.get(_MODEL) == model)
    return sorted(entries, key=lambda entry: entry.turn)


def read(client: "MlflowClient", run_id: str) -> Entry | None:
    """The entry of ``run_id``; None if that run is gone or is none of the journal."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return None
    return _entry(run) if _KIND in run.data.tags and _MODEL in run.data.tags else None


def _entry(run: Any) -> Entry:
    tags = run.data.tags
    places = [tags.get(key) or None for key in _PLACES]
    move = Move(tags[_KIND], tags[_MODEL], Standing(*places[:2]), Standing(*places[2:]))
    return Entry(run.info.run_id, run.info.start_time, run.data.params.get("by", ""), move)


def _method(comparison: Comparison | None) -> dict[str, str]:
    if comparison is None:
        return {}
    fixed = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, "margin": comparison.margin}
    return {key: str(value) for key, value in fixed.items()}


def _numbers(evidence: Evidence) -> dict[str, float]:
    found = evidence.comparison
    if found is None:
        scores = evidence.scores
        return {"candidate": sum(scores.values()) / len(scores), "questions": len(scores)} if scores else {}
    names = ("production", "candidate", "difference", "lower", "upper", "gained", "lost")
    return {name: getattr(found, name) for name in names} | {"questions": len(found.questions)}


def _table(evidence: Evidence) -> str:
    out = io.StringIO()
    rows: Iterator[tuple[Any, ...]]
    if evidence.comparison is not None:
        head: tuple[str, ...] = ("question", "production", "candidate", "difference")
        rows = ((one.id, one.production, one.candidate, one.difference) for one in evidence.comparison.questions)
    elif evidence.scores:
        head, rows = ("question", "candidate"), iter(sorted(evidence.scores.items()))
    else:
        return ""
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    return out.getvalue()


__all__ = [
    "Entry", "Evidence", "Kind", "Move", "ReasonInvalid", "State", "check_reason", "moving", "read", "set_state",
    "whoami", "write",
]  # fmt: skip
