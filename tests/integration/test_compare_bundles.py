"""`slipstream compare` with the real appliance: a bundle against itself, served anew for each run."""

import json
import shutil
from pathlib import Path

import psutil
import pytest

from tests.conftest import slipstream

pytestmark = pytest.mark.integration


def test_a_bundle_is_served_for_each_of_its_runs_and_the_active_one_stays(home: Path, tmp_path: Path) -> None:
    active = (home / "bundles" / "ACTIVE").read_text().strip()
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / active).symlink_to(home / "bundles" / active)  # not active here: it is named
    shutil.copytree(home / "index", tmp_path / "index")  # an index is open to one server at a time
    load = ("--scenario", "smoke", "--rounds", "1", "--json")
    done = slipstream("compare", active[:8], active, *load, home=tmp_path)
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    assert [(run["letter"], run["status"]) for run in said["runs"]] == [("A", "complete"), ("B", "complete")], said
    assert {run["bundle_digest"] for run in said["runs"]} == {active}
    assert all(run["values"]["golden_pass_rate"] is not None for run in said["runs"])
    assert all(run["values"]["error_share"] == 0 for run in said["runs"])
    assert not (tmp_path / "bundles" / "ACTIVE").exists()
    assert not [one for one in psutil.process_iter(["environ"]) if _serves(one, tmp_path)]


def _serves(process: psutil.Process, home: Path) -> bool:
    return (process.info["environ"] or {}).get("SLIPSTREAM_HOME") == str(home)
