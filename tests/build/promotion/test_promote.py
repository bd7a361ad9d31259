"""`promote` and `roll_back` on a real MLflow: what is refused, what moves, what is written down, and what undoes it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipstream.build.mlflow_client import open_client
from slipstream.build.model_versions import NoSuchModel, NoSuchVersion
from slipstream.build.promotion.comparison import TooFewQuestions
from slipstream.build.promotion.journal import ReasonInvalid
from slipstream.build.promotion.moves import PROMOTED_BY, ROLLED_BACK_BY, ProductionMoved
from slipstream.build.promotion.promote import BaseModelDiffers, NoRollback, SameBytes, promote, roll_back
from slipstream.build.registry import AdapterChanged, Registry
from tests.build.lora import write_lora
from tests.build.promotion.registries import GOOD, MIDDLING, MODEL, POOR, QUESTIONS, Scored, aliases, channels

RISING = Scored({"1": POOR, "2": MIDDLING, "3": GOOD, "4": MIDDLING})


def promoted(registry: Registry, tmp_path: Path, *versions: int) -> None:
    for version in versions:
        assert promote(registry, f"models:/{MODEL}/{version}", RISING, tmp_path).outcome in {"first", "promoted"}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_not_better_changes_nothing_but_the_record(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 2)
    before = aliases(registry), channels(registry)
    done = promote(registry, f"models:/{MODEL}/4", RISING, tmp_path, reason="same score")
    assert done.outcome == "refused"
    assert done.comparison is not None
    assert not done.comparison.is_better
    assert (aliases(registry), channels(registry)) == before
    with open_client(registry.uri) as client:
        assert client.get_run(done.run_id).data.tags["slipstream.promotion.state"] == "refused"
        assert PROMOTED_BY not in client.get_model_version(MODEL, "4").tags


def test_a_margin_accepts_what_is_not_inferior_and_is_written_down(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 2)
    done = promote(registry, f"models:/{MODEL}/4", RISING, tmp_path, margin=0.02)
    assert done.outcome == "promoted"
    with open_client(registry.uri) as client:
        assert client.get_run(done.run_id).data.params["margin"] == "0.02"


def test_an_adapter_of_another_base_model_is_not_even_asked(registry: Registry, tmp_path: Path) -> None:
    for seed, base in ((10, "small"), (11, "large")):
        registry.register(write_lora(tmp_path / base, seed=seed, base_model_name_or_path=base), "bases", None)
    asked = Scored({"1": POOR, "2": GOOD})
    promote(registry, "models:/bases/1", asked, tmp_path)
    asked.asked.clear()
    with pytest.raises(BaseModelDiffers, match=r"version 2 .* adapts large.*adapts small"):
        promote(registry, "models:/bases/2", asked, tmp_path)
    assert asked.asked == []
    assert aliases(registry, "bases") == {"production": "1"}


def test_the_same_bytes_under_another_version_are_no_candidate(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1)
    with open_client(registry.uri) as client:
        one = client.get_model_version(MODEL, "1")
        client.create_model_version(MODEL, one.source, one.run_id, tags=one.tags)
    with pytest.raises(SameBytes, match=r"version 5 .* same bytes as version 1"):
        promote(registry, f"models:/{MODEL}/5", RISING, tmp_path, margin=0.5)


def test_too_few_questions_promote_nothing(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1)
    with pytest.raises(TooFewQuestions):
        promote(registry, f"models:/{MODEL}/3", Scored({"1": {"q": 0.0}, "3": {"q": 1.0}}), tmp_path)
    assert aliases(registry) == {"production": "1"}


@pytest.mark.parametrize("reason", ["x" * 5001, "half \udcff"])
def test_a_reason_that_cannot_be_kept_is_refused_before_any_work(
    registry: Registry, tmp_path: Path, reason: str
) -> None:
    asked = Scored({})
    with pytest.raises(ReasonInvalid):
        promote(registry, f"models:/{MODEL}/1", asked, tmp_path, reason=reason)
    with pytest.raises(ReasonInvalid):
        roll_back(registry, MODEL, tmp_path, reason)
    assert asked.asked == []


def test_a_version_that_was_deleted_is_no_candidate_and_one_deleted_meanwhile_is_not_promoted(
    registry: Registry, tmp_path: Path
) -> None:
    promoted(registry, tmp_path, 1)

    def delete(reference: str) -> dict[str, float]:
        if reference.endswith("/3"):
            with open_client(registry.uri) as client:
                client.delete_model_version(MODEL, "3")
        return RISING(reference)  # type: ignore[return-value]

    with pytest.raises(ProductionMoved, match="version 3 was deleted"):
        promote(registry, f"models:/{MODEL}/3", delete, tmp_path)
    with pytest.raises(NoSuchVersion):
        promote(registry, f"models:/{MODEL}/3", RISING, tmp_path)
    assert aliases(registry) == {"production": "1"}
    assert channels(registry) == {"production": "1"}


# --- what moves -------------------------------------------------------------------------------------------------------


def test_the_first_one_needs_no_comparison_but_is_measured(registry: Registry, tmp_path: Path) -> None:
    asked = Scored({"2": MIDDLING})
    done = promote(registry, f"models:/{MODEL}/2", asked, tmp_path)
    assert (done.outcome, done.comparison, done.production) == ("first", None, None)
    assert asked.asked == [f"models:/{MODEL}/2"]
    assert aliases(registry) == channels(registry) == {"production": "2"}
    with open_client(registry.uri) as client:
        assert client.get_run(done.run_id).data.metrics == {"candidate": pytest.approx(0.5), "questions": 30}


def test_the_better_one_takes_the_alias_and_the_tag_and_leaves_a_way_back(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    assert aliases(registry) == channels(registry) == {"production": "2", "rollback": "1"}
    promoted(registry, tmp_path, 3)
    assert aliases(registry) == channels(registry) == {"production": "3", "rollback": "2"}


def test_what_is_in_production_stays_there_without_any_work(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    asked = Scored({})
    for reference in (f"models:/{MODEL}/2", f"models:/{MODEL}@production"):
        assert promote(registry, reference, asked, tmp_path).outcome == "unchanged"
    assert asked.asked == []
    assert aliases(registry) == {"production": "2", "rollback": "1"}


def test_a_version_with_a_nought_before_it_is_that_version(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    assert promote(registry, f"models:/{MODEL}/02", Scored({}), tmp_path).outcome == "unchanged"
    done = promote(registry, f"models:/{MODEL}/03", RISING, tmp_path)
    assert (done.outcome, done.candidate) == ("promoted", "3")
    assert roll_back(registry, MODEL, tmp_path).rollback == "1"


def test_another_alias_names_a_candidate_as_well(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1)
    with open_client(registry.uri) as client:
        client.set_registered_model_alias(MODEL, "staging", "3")
    done = promote(registry, f"models:/{MODEL}@staging", RISING, tmp_path)
    assert (done.outcome, done.candidate, done.production) == ("promoted", "3", "1")


def test_when_the_version_in_production_was_deleted_the_next_is_the_first_and_the_way_back_stays(
    registry: Registry, tmp_path: Path
) -> None:
    promoted(registry, tmp_path, 1, 2)
    with open_client(registry.uri) as client:
        client.delete_model_version(MODEL, "2")
    assert promote(registry, f"models:/{MODEL}/4", RISING, tmp_path).outcome == "first"
    assert aliases(registry) == channels(registry) == {"production": "4", "rollback": "1"}


def test_when_what_was_before_the_deleted_version_comes_back_it_is_not_its_own_way_back(
    registry: Registry, tmp_path: Path
) -> None:
    promoted(registry, tmp_path, 1, 2)
    with open_client(registry.uri) as client:
        client.delete_model_version(MODEL, "2")
    assert promote(registry, f"models:/{MODEL}/1", RISING, tmp_path).outcome == "first"
    assert aliases(registry) == channels(registry) == {"production": "1"}


def test_who_when_why_and_the_numbers_are_in_mlflow(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    promoted(registry, tmp_path, 1)
    facts = {"golden_set": "sample:fastapi-starlette"}
    done = promote(registry, f"models:/{MODEL}/3", RISING, tmp_path, reason="trained on\nаугуст", facts=facts)
    with open_client(registry.uri) as client:
        run = client.get_run(done.run_id)
        assert client.get_model_version(MODEL, "3").tags[PROMOTED_BY] == done.run_id
        stored = tmp_path / "stored"
        stored.mkdir()
        client.download_artifacts(done.run_id, "", str(stored))
    said = run.data.params
    assert said["by"].startswith("ada@")
    assert said["reason"] == "trained on\nаугуст"
    assert said["golden_set"] == "sample:fastapi-starlette"
    assert (said["model"], said["production_before"], said["production_after"]) == (MODEL, "1", "3")
    assert datetime.now(UTC) - datetime.fromisoformat(said["when"]) < timedelta(minutes=5)
    assert run.info.status == "FINISHED"
    assert {key: said[key] for key in ("confidence", "resamples", "seed", "margin")} == {
        "confidence": "0.95", "resamples": "9999", "seed": "7", "margin": "0.0",
    }  # fmt: skip
    assert run.data.metrics == {
        "production": pytest.approx(0.1), "candidate": pytest.approx(0.9), "difference": pytest.approx(0.8),
        "lower": pytest.approx(0.8), "upper": pytest.approx(0.8), "gained": 30, "lost": 0, "questions": 30,
    }  # fmt: skip
    table = (stored / "questions.csv").read_text().splitlines()
    assert table[:2] == ["question,production,candidate,difference", "q00,0.1,0.9,0.8"]
    assert len(table) == 1 + len(QUESTIONS)
    assert "| **mean** | 0.100 | 0.900 | +0.800 |" in (stored / "comparison.md").read_text()


def test_a_path_that_is_no_text_does_not_cost_the_verdict(registry: Registry, tmp_path: Path) -> None:
    done = promote(registry, f"models:/{MODEL}/1", RISING, tmp_path, facts={"recipe": "mine \udcff.yaml"})
    with open_client(registry.uri) as client:
        assert client.get_run(done.run_id).data.params["recipe"] == r"mine \udcff.yaml"


# --- the way back -----------------------------------------------------------------------------------------------------


def test_a_rollback_undoes_the_last_promotion_and_a_second_one_the_one_before(
    registry: Registry, tmp_path: Path
) -> None:
    promoted(registry, tmp_path, 1, 2, 3)
    done = roll_back(registry, MODEL, tmp_path, "answers got longer")
    assert (done.withdrawn, done.production, done.rollback) == ("3", "2", "1")
    assert aliases(registry) == channels(registry) == {"production": "2", "rollback": "1"}
    with open_client(registry.uri) as client:
        assert client.get_model_version(MODEL, "3").tags[ROLLED_BACK_BY] == done.run_id
        assert client.get_run(done.run_id).data.params["reason"] == "answers got longer"
    assert roll_back(registry, MODEL, tmp_path).production == "1"
    assert aliases(registry) == channels(registry) == {"production": "1"}
    with pytest.raises(NoRollback, match="production is version 1"):
        roll_back(registry, MODEL, tmp_path)
    assert aliases(registry) == {"production": "1"}


def test_what_was_withdrawn_can_be_promoted_again(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    roll_back(registry, MODEL, tmp_path)
    promoted(registry, tmp_path, 2)
    assert aliases(registry) == channels(registry) == {"production": "2", "rollback": "1"}
    assert roll_back(registry, MODEL, tmp_path).rollback is None


def test_a_first_promotion_has_no_way_back(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NoRollback, match="production is version none"):
        roll_back(registry, MODEL, tmp_path)
    promoted(registry, tmp_path, 1)
    with pytest.raises(NoRollback):
        roll_back(registry, MODEL, tmp_path)
    with pytest.raises(NoSuchModel):
        roll_back(registry, "nobody", tmp_path)


def test_a_rollback_whose_version_was_deleted_has_nowhere_to_go(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2, 3)
    with open_client(registry.uri) as client:
        client.delete_model_version(MODEL, "1")
    assert roll_back(registry, MODEL, tmp_path).rollback is None
    assert aliases(registry) == channels(registry) == {"production": "2"}


def test_a_rollback_brings_back_a_production_that_was_deleted(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    with open_client(registry.uri) as client:
        client.delete_model_version(MODEL, "2")
    assert roll_back(registry, MODEL, tmp_path).withdrawn is None
    assert aliases(registry) == channels(registry) == {"production": "1"}


def test_a_rollback_to_an_adapter_that_was_damaged_is_refused(registry: Registry, tmp_path: Path) -> None:
    for seed in (1, 2):
        registry.register(write_lora(tmp_path / f"{seed}", seed=seed), "swapped", None)
    rising = Scored({"1": POOR, "2": GOOD})
    promote(registry, "models:/swapped/1", rising, tmp_path)
    promote(registry, "models:/swapped/2", rising, tmp_path)
    kept = registry.resolve("models:/swapped/1", tmp_path).path
    config = json.loads((kept / "adapter_config.json").read_text())
    (kept / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 99}))
    with pytest.raises(AdapterChanged):
        roll_back(registry, "swapped", tmp_path)
    assert aliases(registry, "swapped") == {"production": "2", "rollback": "1"}


def test_aliases_that_were_set_by_hand_are_followed_one_step_and_no_further(registry: Registry, tmp_path: Path) -> None:
    promoted(registry, tmp_path, 1, 2)
    with open_client(registry.uri) as client:
        client.set_registered_model_alias(MODEL, "production", "4")
        client.set_registered_model_alias(MODEL, "rollback", "3")
    assert roll_back(registry, MODEL, tmp_path).rollback is None
    assert aliases(registry) == channels(registry) == {"production": "3"}


def test_a_rollback_that_was_set_by_hand_is_no_step_of_what_the_journal_knows(
    registry: Registry, tmp_path: Path
) -> None:
    promoted(registry, tmp_path, 1, 2, 3)
    with open_client(registry.uri) as client:
        client.set_registered_model_alias(MODEL, "rollback", "4")
    done = roll_back(registry, MODEL, tmp_path)
    assert (done.withdrawn, done.production, done.rollback) == ("3", "4", None)
