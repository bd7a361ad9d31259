"""What is concluded from the folder of a profile, whatever became of its files."""

import json
from pathlib import Path

import pytest

from slipstream.loadtest.folder import NoRunThere
from slipstream.profiling.run.conclusion import conclude
from slipstream.profiling.run.folder import NoProfileThere, ProfileFolder
from slipstream.profiling.run.writing import write
from tests.profiling.report.made_profile import samples, written

HUGE = pytest.param(10**400, id="10**400")


def test_a_profile_is_concluded_from_its_files_and_written_in_every_form(tmp_path: Path) -> None:
    folder = written(tmp_path)
    profile = conclude(folder)
    write(profile, folder)
    said = json.loads(folder.profile.read_text())
    assert said["requests"] == {"measured": 105, "failed": 0, "profiled": 105}
    assert [one["stage"] for one in said["stages_ms"]] == [
        "queue", "embed", "retrieve", "prompt", "prefill", "decode", "stream",
    ]  # fmt: skip
    assert [(one["until"], one["owner"]) for one in said["breakdowns"]] == [
        ("end", "decode"),
        ("first token", "retrieve"),
    ]
    assert said["findings"][0]["rule"] == "slow_store"
    assert said["agreement"]["joined"] == "one clock"
    assert said["agreement"]["within"] == 1.0
    assert said["machine"]["cores used"].startswith("engine 1.6")
    lines = folder.timeline.read_text().splitlines()
    assert len(lines) == 120
    assert {"sent_ns", "first_ns", "end_ns", "timing"} <= set(json.loads(lines[0]))


def test_without_its_samples_it_is_concluded_from_its_timeline(tmp_path: Path) -> None:
    folder = written(tmp_path)
    first = conclude(folder).as_dict()
    folder.samples.unlink()
    assert conclude(folder).as_dict() == first


def test_a_timeline_that_is_none_is_said_by_its_line(tmp_path: Path) -> None:
    folder = written(tmp_path)
    conclude(folder)
    folder.samples.unlink()
    whole = folder.timeline.read_text().splitlines()
    for broken in ("{", "[]", "{}", whole[1].replace('"stages"', '"steps"')):
        folder.timeline.write_text("\n".join([whole[0], broken]))
        with pytest.raises(NoProfileThere, match=r"timeline.jsonl:2 is no request"):
            conclude(folder)


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoRunThere):
        conclude(ProfileFolder(tmp_path))
    folder = written(tmp_path / "begun")
    folder.samples.unlink()
    with pytest.raises(NoRunThere, match="never began"):
        conclude(folder)
    folder = written(tmp_path / "planless")
    folder.plan.write_text("{}")
    with pytest.raises(NoProfileThere, match="is no plan"):
        conclude(folder)


@pytest.mark.parametrize("listening", [None, "kubectl", "ssh"])  # a tunnel ends here, and its server is elsewhere
def test_a_machine_that_is_not_the_servers_is_not_diagnosed(tmp_path: Path, listening: str | None) -> None:
    folder = written(tmp_path)
    looks = [json.loads(line) for line in folder.telemetry.read_text().splitlines()]
    for look in looks:
        facade, generator = look["processes"][1:]
        look["processes"] = [generator] if listening is None else [facade | {"role": listening}, generator]
    folder.telemetry.write_text("".join(json.dumps(look) + "\n" for look in looks))
    profile = conclude(folder)
    assert len(profile.telemetry) == 80
    assert (profile.case.telemetry, profile.case.cores) == ((), None)


def test_a_run_in_which_nothing_succeeded_is_no_error(tmp_path: Path) -> None:
    failed = samples(30)
    for sample in failed:
        sample.outcome, sample.timing, sample.chunk_s = "server_error", None, []
    folder = written(tmp_path, failed)
    profile = conclude(folder)
    write(profile, folder)
    assert (len(profile.timeline), profile.timeline.failed, profile.findings) == (0, 15, [])
    assert "none of 15 measured requests succeeded" in folder.report.read_text()
    assert json.loads(folder.trace.read_text())["traceEvents"]


def test_a_run_that_was_stopped_says_so(tmp_path: Path) -> None:
    folder = written(tmp_path, was_stopped=True, ended_s=12.5)
    write(conclude(folder), folder)
    assert "stopped after 12.5 s" in folder.report.read_text()


def test_a_run_that_was_killed_was_stopped_at_the_last_moment_that_is_kept(tmp_path: Path) -> None:
    folder = written(tmp_path, samples(60), ended_s=None)
    last = max(sample.end_s for sample in samples(60))
    profile = conclude(folder)
    assert profile.stopped_s == pytest.approx(last, abs=1e-5)
    write(profile, folder)
    assert f"stopped after {last:.1f} s" in folder.report.read_text()
    folder.samples.unlink()
    assert conclude(folder).stopped_s == profile.stopped_s
    folder.timeline.write_text("")
    assert conclude(folder).stopped_s == 0.0


@pytest.mark.parametrize("absurd", [1e300, 1e290, 2e12, HUGE])
def test_a_moment_that_is_none_costs_nobody_the_profile(tmp_path: Path, absurd: float) -> None:
    told = samples()
    for number, field in enumerate(("received_unix_s", "ttft_ms", "end_to_end_ms")):
        assert told[30 + number].timing is not None
        told[30 + number].timing[field] = absurd
    folder = written(tmp_path, told)
    profile = conclude(folder)
    write(profile, folder)
    assert (len(profile.timeline), profile.received_ns[15]) == (105, None)
    assert profile.case.busy_s[1] < 60


@pytest.mark.parametrize("absurd", [1e300, HUGE])
def test_nor_does_a_length_that_is_none(tmp_path: Path, absurd: float) -> None:
    told = samples()
    timing = told[30].timing
    assert timing is not None
    timing["stages"]["prefill"], timing["spans"][4][2], timing["decode_steps"] = absurd, absurd, absurd
    folder = written(tmp_path, told)
    profile = conclude(folder)
    write(profile, folder)
    assert max(length for timing in profile.timeline.timings for length in timing.stages.values()) < 1e5
    assert max(span.length_ms for timing in profile.timeline.timings for span in timing.spans) < 1e5
