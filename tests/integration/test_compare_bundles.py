"""`slipstream compare` with the real appliance: a bundle against itself, served anew for each run."""

import json
import shutil
from pathlib import Path

import psutil
import pytest
import yaml

from tests.conftest import ROOT, slipstream

pytestmark = pytest.mark.integration

GOLDEN = ROOT / "build" / "golden" / "fastapi-starlette.yaml"
SMOKE = ROOT / "loadtest" / "scenarios" / "smoke.yaml"
ASKED = 4


def few_questions(path: Path) -> Path:
    """The first questions that are asked at the gate, about the sources that the home has indexed."""
    golden = yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))
    gate = [question for question in golden["questions"] if question["use"] == "gate"]
    path.write_text(yaml.safe_dump(golden | {"questions": gate[:ASKED]}), encoding="utf-8")
    return path


def patient_smoke(path: Path) -> Path:
    """``smoke``; the lag of a busy machine does not make it void."""
    path.write_text(yaml.safe_dump(yaml.safe_load(SMOKE.read_text(encoding="utf-8")) | {"max_lag_ms": 10_000}))
    return path


def test_a_bundle_is_served_for_each_of_its_runs_and_the_active_one_stays(home: Path, tmp_path: Path) -> None:
    active = (home / "bundles" / "ACTIVE").read_text().strip()
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / active).symlink_to(home / "bundles" / active)  # not active here: it is named
    shutil.copytree(home / "index", tmp_path / "index")  # an index is open to one server at a time
    golden, scenario = few_questions(tmp_path / "golden.yaml"), patient_smoke(tmp_path / "smoke.yaml")
    load = ("--scenario", str(scenario), "--golden", str(golden), "--rounds", "1", "--json")
    done = slipstream("compare", active[:8], active, *load, home=tmp_path)
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    assert [(run["letter"], run["status"]) for run in said["runs"]] == [("A", "complete"), ("B", "complete")], said
    assert {run["bundle_digest"] for run in said["runs"]} == {active}
    assert all(run["values"]["golden_pass_rate"] is not None for run in said["runs"])
    assert all(len(run["questions"]) == ASKED for run in said["runs"])
    assert all(run["values"]["error_share"] == 0 for run in said["runs"])
    assert not (tmp_path / "bundles" / "ACTIVE").exists()
    assert not [one for one in psutil.process_iter(["environ"]) if _serves(one, tmp_path)]


def _serves(process: psutil.Process, home: Path) -> bool:
    return (process.info["environ"] or {}).get("SLIPSTREAM_HOME") == str(home)
