"""The default bundle under the real nsys: every stage of the appliance arrives, from every process of it."""

import json
from pathlib import Path

import pytest

from slipstream.profiling.nsys.capture import CaptureFolder
from slipstream.profiling.nsys.results import read_reading
from slipstream.profiling.nsys.tool import Nsys
from slipstream.profiling.spans import STAGES
from tests.conftest import slipstream


@pytest.mark.integration
def test_the_appliance_is_captured_stage_by_stage(nsys: Nsys, own_home: Path) -> None:
    done = slipstream("profile", "nsys", "--scenario", "smoke", "--duration", "30", "--json", home=own_home)
    assert done.returncode == 0, done.stderr
    (made,) = (own_home / "reports").glob("profile-*")
    reading = read_reading(CaptureFolder(made / "nsys").reading)
    assert json.loads(done.stdout) == json.loads(reading.to_json())
    assert {one.stage for one in reading.stages} == {*STAGES, "step"}
    assert reading.processes >= 4  # the facade, embedder, retriever and the engine
    assert reading.requests.answered
    assert reading.requests.whole == reading.requests.answered  # by the ids that the server told the load
    stages = {one.stage: one for one in reading.stages}
    assert (stages["queue"].requests or 0) >= reading.requests.whole
    assert stages["decode"].ranges > stages["prefill"].ranges > 0  # an answer that was declined has neither
    assert {one.stage for one in reading.calls} >= {"step"}
    path = [part.stage for part in reading.requests.slowest[0].path]
    assert path.index("retrieve") < path.index("prefill") < path.index("decode")
    assert reading.gpu == () or reading.gpu[0].times > 0
