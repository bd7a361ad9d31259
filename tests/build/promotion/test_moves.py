"""Promotions that are killed, that meet each other, and that a real MLflow server serves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipstream.build.mlflow_client import open_client
from slipstream.build.promotion import moves
from slipstream.build.promotion.journal import Evidence, Move, moving, set_state, write
from slipstream.build.promotion.moves import ProductionMoved, PromotionUnderWay, carry_out, recover
from slipstream.build.promotion.promote import promote, roll_back
from slipstream.build.promotion.standing import Standing, point
from slipstream.build.registry import Registry
from tests.build.promotion.registries import GOOD, MIDDLING, MODEL, POOR, Scored, aliases, channels, register

RISING = Scored({"1": POOR, "2": MIDDLING, "3": GOOD, "4": dict.fromkeys(GOOD, 1.0)})


class Killed(BaseException):
    """Ends a process where it stands: nothing that catches errors catches this."""


@pytest.fixture
def two_promoted(registry: Registry, tmp_path: Path) -> Registry:
    for version in ("1", "2"):
        promote(registry, f"models:/{MODEL}/{version}", RISING, tmp_path)
    return registry


Kill = Callable[[int, Callable[[], object]], None]


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Kill:
    """Does something and kills it when it has moved that many aliases, before it sets any tag."""

    def kill(survived: int, work: Callable[[], object]) -> None:
        done: list[tuple[Any, ...]] = []

        def point_or_die(*args: Any) -> None:
            if len(done) == survived:
                raise Killed
            done.append(args)
            point(*args)

        def die(*args: Any) -> None:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(moves, "point", point_or_die)
            patched.setattr(moves, "follow_aliases", die)
            with pytest.raises(Killed):
                work()

    return kill


# --- killed half way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("survived", "half_way"), [(0, ("2", "1")), (1, ("2", "2"))])
def test_a_promotion_killed_before_production_moved_is_taken_back(
    two_promoted: Registry, tmp_path: Path, kill: Kill, survived: int, half_way: tuple[str, str]
) -> None:
    kill(survived, lambda: promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path))
    assert aliases(two_promoted) == {"production": half_way[0], "rollback": half_way[1]}
    assert promote(two_promoted, f"models:/{MODEL}/2", Scored({}), tmp_path).outcome == "unchanged"
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "2", "rollback": "1"}
    assert promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path).outcome == "promoted"


def test_a_promotion_killed_after_production_moved_is_finished(
    two_promoted: Registry, tmp_path: Path, kill: Kill
) -> None:
    kill(2, lambda: promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path))
    assert aliases(two_promoted) == {"production": "3", "rollback": "2"}
    assert channels(two_promoted) == {"production": "2", "rollback": "1"}
    assert promote(two_promoted, f"models:/{MODEL}/3", Scored({}), tmp_path).outcome == "unchanged"
    assert channels(two_promoted) == {"production": "3", "rollback": "2"}
    assert roll_back(two_promoted, MODEL, tmp_path).rollback == "1"


def test_a_rollback_after_a_kill_goes_back_to_what_was_in_production(
    two_promoted: Registry, tmp_path: Path, kill: Kill
) -> None:
    """Half way both aliases name version 2; taken at its word, there would be nothing to go back to."""
    kill(1, lambda: promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path))
    assert roll_back(two_promoted, MODEL, tmp_path).production == "1"


def test_a_rollback_killed_after_production_moved_is_finished_and_none_goes_two_steps(
    two_promoted: Registry, tmp_path: Path, kill: Kill
) -> None:
    promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path)
    kill(1, lambda: roll_back(two_promoted, MODEL, tmp_path))
    assert aliases(two_promoted) == {"production": "2", "rollback": "2"}
    assert promote(two_promoted, f"models:/{MODEL}/2", Scored({}), tmp_path).outcome == "unchanged"
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "2", "rollback": "1"}


def test_a_killed_move_leaves_alone_what_somebody_set_by_hand_since(
    two_promoted: Registry, tmp_path: Path, kill: Kill
) -> None:
    kill(1, lambda: promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path))
    with open_client(two_promoted.uri) as client:
        point(client, MODEL, "production", "4")
        assert len(recover(client, two_promoted.uri, MODEL)) == 1
        assert recover(client, two_promoted.uri, MODEL) == []
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "4", "rollback": "2"}


def test_a_move_that_is_finished_later_leaves_alone_a_way_back_that_somebody_set_since(
    two_promoted: Registry, tmp_path: Path, kill: Kill
) -> None:
    kill(2, lambda: promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path))
    with open_client(two_promoted.uri) as client:
        point(client, MODEL, "rollback", "4")
        assert len(recover(client, two_promoted.uri, MODEL)) == 1
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "3", "rollback": "4"}


STOPS = """
import os, signal, sys
from pathlib import Path
from slipstream.build.promotion import moves
from slipstream.build.promotion.promote import promote
from slipstream.build.registry import Registry
moves.follow_aliases = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
promote(Registry(sys.argv[1]), "models:/assistant/3", lambda reference: dict.fromkeys(
    map(str, range(30)), 1.0 if reference.endswith("/3") else 0.2), Path())
"""


def test_the_lock_of_a_process_that_was_killed_is_nobodys(two_promoted: Registry, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", STOPS, two_promoted.uri], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert channels(two_promoted) == {"production": "2", "rollback": "1"}
    assert promote(two_promoted, f"models:/{MODEL}/4", Scored(RISING.scores | {"3": POOR}), tmp_path).production == "3"
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "4", "rollback": "3"}


# --- two at once ------------------------------------------------------------------------------------------------------


def test_who_decided_on_a_production_that_moved_meanwhile_moves_nothing(two_promoted: Registry, tmp_path: Path) -> None:
    def overtaken(reference: str) -> dict[str, float]:
        if reference.endswith("/3"):
            promote(two_promoted, f"models:/{MODEL}/4", RISING, tmp_path)
        return RISING(reference)  # type: ignore[return-value]

    with pytest.raises(ProductionMoved, match="production is version 4 and rollback 2 by now; 2 and 1 were looked at"):
        promote(two_promoted, f"models:/{MODEL}/3", overtaken, tmp_path)
    assert aliases(two_promoted) == channels(two_promoted) == {"production": "4", "rollback": "2"}


RACE = """
import sys, time
from pathlib import Path
from slipstream import SlipstreamError
from slipstream.build.promotion.promote import promote
from slipstream.build.registry import Registry
uri, version, start = sys.argv[1], sys.argv[2], Path(sys.argv[3])
def scores(reference):
    (start / version).touch()
    while len(list(start.iterdir())) < 2:
        time.sleep(0.01)
    return {f"q{n:02}": 0.2 if reference.endswith("/2") else 1.0 for n in range(30)}
try:
    print(promote(Registry(uri), f"models:/assistant/{version}", scores, start.parent).outcome)
except SlipstreamError as error:
    print(type(error).__name__)
"""


def race(uri: str, folder: Path) -> list[str]:
    """What versions 3 and 4 heard, promoted by two processes that both compared with version 2."""
    start = folder / "start"
    start.mkdir()
    both = [
        subprocess.Popen([sys.executable, "-c", RACE, uri, version, str(start)], stdout=subprocess.PIPE, text=True)
        for version in ("3", "4")
    ]
    return [process.communicate(timeout=120)[0].strip() for process in both]


def assert_one_won(registry: Registry, heard: list[str]) -> None:
    assert heard.count("promoted") == 1, heard
    assert set(heard) <= {"promoted", "ProductionMoved", "PromotionUnderWay"}, heard
    winner = ("3", "4")[heard.index("promoted")]
    assert aliases(registry) == channels(registry) == {"production": winner, "rollback": "2"}
    with open_client(registry.uri) as client:
        assert moving(client, registry.uri, MODEL) == []


def test_of_two_at_once_one_wins(two_promoted: Registry, tmp_path: Path) -> None:
    assert_one_won(two_promoted, race(two_promoted.uri, tmp_path))


def test_a_lock_that_somebody_holds_is_waited_for_but_not_for_ever(
    two_promoted: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "_PATIENCE_S", 0.3)
    with moves._sole_mover(two_promoted.uri), pytest.raises(PromotionUnderWay, match=r"\.promotion\.lock"):
        promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path)
    assert aliases(two_promoted) == {"production": "2", "rollback": "1"}
    assert promote(two_promoted, f"models:/{MODEL}/3", RISING, tmp_path).outcome == "promoted"


# --- an MLflow server -------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_on_a_server_it_works_the_same_and_nobody_waits_for_the_dead(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(mlflow_server.replace("//", "//ada:hunter2@"))
    register(registry, tmp_path / "lora", 4)
    for version in ("1", "2"):
        promote(registry, f"models:/{MODEL}/{version}", RISING, tmp_path, reason="über HTTP")
    assert capfd.readouterr() == ("", ""), "MLflow tells where it stored what, with the password"
    assert_one_won(registry, race(registry.uri, tmp_path))
    assert roll_back(registry, MODEL, tmp_path).production == "2"
    assert aliases(registry) == channels(registry) == {"production": "2", "rollback": "1"}

    with open_client(registry.uri) as client:
        stuck = Move("promotion", MODEL, Standing("2", "1"), Standing("3", "2"))
        dead = write(client, registry.uri, stuck, Evidence(), "moving")
        point(client, MODEL, "rollback", "2")
        time.sleep(0.01)
        late = write(client, registry.uri, stuck, Evidence(), "recorded")
        with pytest.raises(PromotionUnderWay, match=dead.run_id):
            carry_out(client, registry.uri, late)
        monkeypatch.setattr(moves, "TAKEN_OVER_AFTER_S", 0.0)
        assert [entry.run_id for entry in recover(client, registry.uri, MODEL)] == [dead.run_id]
    assert aliases(registry) == channels(registry) == {"production": "2", "rollback": "1"}


@pytest.mark.integration
def test_on_a_server_who_came_first_waits_for_who_gives_way(mlflow_server: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_server)
    register(registry, tmp_path / "lora", 2, "queue")
    move = Move("promotion", "queue", Standing(None, None), Standing("1", None))
    with open_client(registry.uri) as client:
        first = write(client, registry.uri, move, Evidence(), "recorded")
        time.sleep(0.01)
        second = write(client, registry.uri, move, Evidence(), "moving")
        gives_way = subprocess.Popen(
            [sys.executable, "-c", GIVE_WAY, mlflow_server, second.run_id], env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        carry_out(client, registry.uri, first)
        assert gives_way.wait(60) == 0
        set_state(client, second.run_id, "abandoned")
    assert aliases(registry, "queue") == channels(registry, "queue") == {"production": "1"}


GIVE_WAY = """
import sys, time
from slipstream.build.mlflow_client import open_client
from slipstream.build.promotion.journal import set_state
with open_client(sys.argv[1]) as client:
    assert dict(client.get_registered_model("queue").aliases) == {}, "nobody moves while another is moving"
    set_state(client, sys.argv[2], "abandoned")
"""
