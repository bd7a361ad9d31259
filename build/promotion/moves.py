"""Moving the aliases: one mover at a time, and nothing half moved stays.

The alias ``production`` is the point of no return. In between, ``rollback`` names what ``production`` names, which
misleads nobody. A move that was killed is finished by the next command if ``production`` had moved, else taken back.

*On SQLite* a file lock beside the database keeps others out, and the kernel drops it with the process: whatever the
journal still calls moving is dead. *On a server* there is no lock to hold. A mover says in the journal that it moves
and then looks who else does (the doorway of Lamport's bakery, CACM 17(8), 1974): it gives way to who came before and
waits for who came after, so that of two at least one sees the other. What has been moving for `TAKEN_OVER_AFTER_S` is
dead, for a move takes a second; the clocks of those who promote should agree to a minute.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep, time
from typing import TYPE_CHECKING

from slipstream import EnvironmentFault
from slipstream.build.mlflow_client import database_of
from slipstream.build.promotion.journal import Entry, Move, moving, set_state
from slipstream.build.promotion.standing import PRODUCTION, ROLLBACK, exists, follow_aliases, point, standing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PROMOTED_BY, ROLLED_BACK_BY = "slipstream.promotion", "slipstream.rollback"
"""Version tags: the run that put it into production, and the one that took it out."""

TAKEN_OVER_AFTER_S = 120.0
_PATIENCE_S = 30.0
_LOOK_AGAIN_S = 0.1


class PromotionUnderWay(EnvironmentFault):
    """Somebody else is moving the aliases of this model."""


class ProductionMoved(EnvironmentFault):
    """The aliases are no more where they were when the move was decided."""


def carry_out(client: "MlflowClient", uri: str, entry: Entry) -> None:
    """Move as ``entry`` says.

    Raises:
        PromotionUnderWay, ProductionMoved: nothing was moved, and the journal says so.
    """
    move = entry.move
    with _sole_mover(uri):
        try:
            set_state(client, entry.run_id, "moving")
            _await_turn(client, uri, entry)
            _require_unmoved(client, move)
        except EnvironmentFault:
            set_state(client, entry.run_id, "abandoned")
            raise
        promoting = move.kind == "promotion"
        # In this order, so that half way both aliases name the same version.
        for alias in (ROLLBACK, PRODUCTION) if promoting else (PRODUCTION, ROLLBACK):
            point(client, move.model, alias, getattr(move.after, alias))
        _finish(client, entry)


def recover(client: "MlflowClient", uri: str, model: str) -> list[Entry]:
    """Finish or take back the moves of ``model`` that were killed; those that were."""
    if not moving(client, uri, model):
        return []
    with _sole_mover(uri):
        dead = [entry for entry in moving(client, uri, model) if _is_dead(uri, entry)]
        for entry in dead:
            _settle(client, entry)
    return dead


def _await_turn(client: "MlflowClient", uri: str, mine: Entry) -> None:
    deadline = monotonic() + _PATIENCE_S
    while others := [entry for entry in moving(client, uri, mine.move.model) if entry.run_id != mine.run_id]:
        for entry in others:
            if _is_dead(uri, entry):
                _settle(client, entry)
            elif entry.turn < mine.turn or monotonic() > deadline:
                raise PromotionUnderWay(
                    f"{entry.by} is moving {mine.move.model!r} (run {entry.run_id})",
                    "run it again in a moment; a move that was killed is settled by whoever comes "
                    f"{TAKEN_OVER_AFTER_S:.0f} s after it began",
                )
        sleep(_LOOK_AGAIN_S)


def _is_dead(uri: str, entry: Entry) -> bool:
    return database_of(uri) is not None or time() - entry.started_ms / 1000 > TAKEN_OVER_AFTER_S


def _require_unmoved(client: "MlflowClient", move: Move) -> None:
    now = standing(client, move.model)
    if now != move.before:
        raise ProductionMoved(
            f"{move.model}: production is version {now.production or 'none'} and rollback {now.rollback or 'none'} "
            f"by now; {move.before.production or 'none'} and {move.before.rollback or 'none'} were looked at",
            "run it again, to decide on what is there now",
        )
    wanted = move.after.production
    if wanted is not None and not exists(client, move.model, wanted):
        raise ProductionMoved(f"{move.model} version {wanted} was deleted meanwhile", "promote another version")


def _settle(client: "MlflowClient", entry: Entry) -> None:
    """Finish a move if ``production`` has moved, take it back if not; aliases that somebody set by hand stay."""
    move, now = entry.move, standing(client, entry.move.model)
    if now.production == move.after.production:
        if now.rollback in (move.before.rollback, move.after.rollback):
            point(client, move.model, ROLLBACK, _still_there(client, move.model, move.after.rollback))
        _finish(client, entry)
        return
    if now.production == move.before.production and now.rollback == move.after.rollback:
        point(client, move.model, ROLLBACK, _still_there(client, move.model, move.before.rollback))
    follow_aliases(client, move.model)
    set_state(client, entry.run_id, "abandoned")


def _still_there(client: "MlflowClient", model: str, version: str | None) -> str | None:
    return version if version is not None and exists(client, model, version) else None


def _finish(client: "MlflowClient", entry: Entry) -> None:
    """What follows from moved aliases: the tags of the versions, and the word that it is done."""
    move = entry.move
    follow_aliases(client, move.model)
    tag = PROMOTED_BY if move.kind == "promotion" else ROLLED_BACK_BY
    version = move.after.production if move.kind == "promotion" else move.before.production
    if _still_there(client, move.model, version):
        client.set_model_version_tag(move.model, version, tag, entry.run_id)
    set_state(client, entry.run_id, "done")


@contextmanager
def _sole_mover(uri: str) -> Iterator[None]:
    """Hold the lock beside a SQLite database; there is none for a server."""
    database = database_of(uri)
    if database is None:
        yield
        return
    descriptor = os.open(database.parent / ".promotion.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = monotonic() + _PATIENCE_S
        while not _locked(descriptor):
            if monotonic() > deadline:
                raise PromotionUnderWay(
                    f"another process holds {database.parent / '.promotion.lock'}", "wait for it to end, or end it"
                )
            sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


__all__ = [
    "PROMOTED_BY", "ROLLED_BACK_BY", "TAKEN_OVER_AFTER_S", "ProductionMoved", "PromotionUnderWay", "carry_out",
    "recover",
]  # fmt: skip
