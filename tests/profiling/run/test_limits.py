"""The limit of a profile's own work, from what is known of bundle and machine."""

from pathlib import Path

import pytest

from slipstream.profiling.diagnosis.case import EngineLook
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import Work
from slipstream.profiling.run.conclusion import conclude
from slipstream.profiling.run.limits import work_limit
from slipstream.profiling.timeline.model import Timeline
from tests.profiling.made import request, timing
from tests.profiling.report.made_profile import written

WORK = Work(
    weight_bytes=80_000_000, row_bytes=1_000, parameters=130_000_000, head_parameters=28_000_000,
    kv_bytes_per_token=20_000.0, attention_width=17_280, tokens_per_step=1, arithmetic="fast", precision="u8",
)  # fmt: skip
ROOF = Roof("a CPU", (Reading(2**26, Rate(20e9, 19e9, 18e9)),), {"fast": Rate(300e9, 290e9, 280e9)})
LIMIT = Limit("75e6", slots=4, work=WORK, roof=ROOF)
TIMELINE = Timeline.of([request(n, n * 0.1, prompt_tokens=700, output_tokens=20) for n in range(10)])


def test_a_step_is_what_the_engine_ran_on_average() -> None:
    found = work_limit(LIMIT, TIMELINE, [EngineLook(0.0, active=0), *(EngineLook(1.0, active=n) for n in (2, 3, 4))])
    assert found is not None
    assert found.streams == 3
    assert found.decode == WORK.decode(3, 710)
    assert found.prefill == WORK.prefill(700, 0)
    assert (found.memory_bytes_per_s, found.operations_per_s) == (20e9, 300e9)
    assert found.least_ms(found.decode) == pytest.approx(1e3 * WORK.decode(3, 710).read_bytes / 20e9)


def test_the_prefill_is_that_in_the_middle_by_its_share_of_the_limit() -> None:
    """Nine short prompts at half of what is possible, one long one at a tenth, one that was cached."""
    lengths = [*(100 for _ in range(9)), 4000, 3000]
    times = [*(least(100) / 0.5 for _ in range(9)), least(4000) / 0.1, 1.0]
    timeline = Timeline.of(
        [
            request(n, n * 0.1, timing({"prefill": taken}), prompt_tokens=length, output_tokens=20)
            for n, (length, taken) in enumerate(zip(lengths, times, strict=True))
        ]
    )
    found = work_limit(LIMIT, timeline, [])
    assert found is not None
    assert found.prefill == WORK.prefill(100, 0)
    assert found.prefill_ms == pytest.approx(least(100) / 0.5)


def test_without_a_prefill_there_is_none() -> None:
    declined = request(0, 0.0, timing({"queue": 1.0}), prompt_tokens=30)
    found = work_limit(LIMIT, Timeline.of([declined]), [])
    assert found is not None
    assert (found.prefill, found.prefill_ms) == (None, None)


def least(prompt_tokens: int) -> float:
    """Milliseconds, of a prompt."""
    load = WORK.prefill(prompt_tokens, 0)
    return 1e3 * max(load.read_bytes / 20e9, load.operations / 300e9)


def test_no_step_has_more_sequences_than_slots() -> None:
    found = work_limit(LIMIT, TIMELINE, [EngineLook(1.0, active=9)])
    assert found is not None
    assert found.streams == 4


def test_without_gauges_the_timeline_tells_how_many_decode_at_once() -> None:
    found = work_limit(LIMIT, TIMELINE, [])  # 10 answers decode 240 ms each, within 1.22 s
    assert found is not None
    assert found.streams == 2


def test_what_is_not_known_has_no_limit() -> None:
    assert work_limit(None, TIMELINE, []) is None
    assert work_limit(LIMIT, Timeline.of([]), []) is None
    assert work_limit(LIMIT, Timeline.of([request(prompt_tokens=None)]), []) is None
    bare = Limit("75e6", 4, WORK, Roof("a CPU", ROOF.readings, {}))
    assert work_limit(bare, TIMELINE, []) is None


def test_what_was_kept_beside_a_run_is_found_again(tmp_path: Path) -> None:
    folder = written(tmp_path)
    LIMIT.write(folder.limit)
    profile = conclude(folder)
    assert profile.case.limit is not None
    assert profile.as_dict()["limit"]["step_ms"] == pytest.approx(
        profile.case.limit.least_ms(profile.case.limit.decode)
    )
