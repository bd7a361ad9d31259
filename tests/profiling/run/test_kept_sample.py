"""The profile that the repository keeps, drawn again: a recorded run, and what README reads in it."""

import json
import shutil
from pathlib import Path

import pytest

from slipstream.engines.openvino.arithmetic import BLOCK_TOKENS, FAST_8BIT_CACHE, FAST_16BIT_CACHE
from slipstream.profiling.run.conclusion import Profile, conclude
from slipstream.profiling.run.folder import ProfileFolder
from tests.conftest import ROOT

KEPT = ROOT / "profiling" / "samples" / "default-2-cores"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("kept") / "profile"
    shutil.copytree(KEPT, folder)
    return conclude(ProfileFolder(folder))


def test_the_recorded_stall_is_found_and_nothing_else(kept: Profile) -> None:
    (found,) = kept.findings
    assert found.rule == "prefill_stalls"
    assert "160 of 2,438 decode steps" in found.evidence[0]


def test_readme_says_what_the_profile_says(kept: Profile) -> None:
    said = (ROOT / "profiling" / "README.md").read_text(encoding="utf-8")
    assert len(kept.timeline) == 76
    for one in (*kept.stages, *kept.latencies):
        if one.stage in {"prefill", "decode", "TTFT", "end-to-end"}:
            name = f"**{one.stage}**" if one.stage in {"TTFT", "end-to-end"} else one.stage
            assert f"| {name} | {one.at_ms[0]:,.0f} | {one.at_ms[1]:,.0f} |" in said
    limit = kept.case.limit
    assert limit is not None
    assert limit.prefill is not None
    assert limit.prefill_ms is not None
    assert f"at {limit.least_ms(limit.prefill) / limit.prefill_ms:.0%} of what this processor computes" in said


def test_nothing_of_the_machine_that_recorded_it_is_kept() -> None:
    for path in KEPT.iterdir():
        assert not any(word in path.read_text(encoding="utf-8") for word in ('"/', "/home/", "/root/"))


def test_what_is_kept_is_small() -> None:
    assert sum(path.stat().st_size for path in Path(KEPT).iterdir()) < 500_000


@pytest.mark.parametrize(("is_watched", "joined"), [(True, "one clock"), (False, "aligned by TTFT")])
def test_late_notes_are_another_clock_only_where_no_server_was_seen(
    tmp_path: Path, is_watched: bool, joined: str
) -> None:
    """Of every fourth request the server notes 20 ms too late."""
    folder = ProfileFolder(tmp_path / "profile")
    shutil.copytree(KEPT, folder.root)
    requests = [json.loads(line) for line in folder.timeline.read_text(encoding="utf-8").splitlines()]
    for request in requests[::4]:
        request["timing"]["received_unix_s"] += 0.02
    folder.timeline.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
    if not is_watched:
        folder.telemetry.unlink()
    found = conclude(folder).agreement
    assert found is not None
    assert found.joined == joined


def test_readme_says_how_many_positions_the_cache_holds() -> None:
    """Of SmolLM2-135M: 30 layers, 3 heads of keys and values, 64 wide."""
    held = 512 * 2**20 // FAST_16BIT_CACHE.block_bytes(30, 3, 64) * BLOCK_TOKENS
    fewer = 1 - held / (512 * 2**20 // FAST_8BIT_CACHE.block_bytes(30, 3, 64) * BLOCK_TOKENS)
    said = (ROOT / "profiling" / "README.md").read_text(encoding="utf-8")
    assert f"holds {round(fewer, 1):.0%} fewer ({round(held, -2):,} of this model in the default 512 MiB)" in said
