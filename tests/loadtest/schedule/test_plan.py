"""The plan: the same seed the same load, nothing moved by what else changes, each arrival with one worker."""

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream import InputError
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.schedule.bodies import ExtraBodyInvalid
from slipstream.loadtest.schedule.plan import NothingMeasured, Plan, Planned, PlanUnreadable, draw
from slipstream.loadtest.schedule.prompts import PromptsInvalid
from slipstream.loadtest.schedule.synthetic import TokenizerMissing, TokenizerUnsuitable
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from slipstream.loadtest.schedule.trace import TraceInvalid
from tests.loadtest.tokenizers_made import write_word_piece

POISSON = {"kind": "poisson", "rate": 5}
CLOSED = {"kind": "closed", "users": 5, "think": 1.0}
SYNTHETIC = {"kind": "synthetic", "tokens": [8, 40]}
# What a seed drew when this was written.
MOMENTS = [0.548471, 0.555886, 0.672924, 0.883405]
ASKED = ["no-pods", "ru-state", "range-header", "trusted-host"]
LIMITS = [12, 11, 16, 19]
STAYS = [None, None, None, None, 8, 8, 8, 8]
quick = settings(max_examples=10, deadline=None)


def scenario(arrivals: dict[str, Any] = POISSON, **fields: Any) -> Scenario:
    return Scenario.model_validate({"arrivals": arrivals, "warmup": 2, "duration": 30, **fields})


def moments(plan: Plan) -> list[float | None]:
    return [one.scheduled_s for one in plan.arrivals]


def stays(plan: Plan) -> list[int | None]:
    return [one.disconnect_after for one in plan.arrivals]


def limits(plan: Plan) -> list[int | None]:
    return [one.body.get("max_tokens") for one in plan.arrivals]


def trace(folder: Path, *lines: dict[str, Any]) -> dict[str, Any]:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"kind": "replay", "trace": str(path)}


# --- from the seed, and from it alone --------------------------------------------------------------------------------


def test_a_seed_draws_this_plan_on_every_machine() -> None:
    """Written down once: it changes when numpy, the order of draws or a body does, and with it every earlier result."""
    plan = draw(scenario(output={"tokens": [10, 20]}, disconnects={"share": 0.3}, seed=1, requests=20))
    assert moments(plan)[:4] == MOMENTS
    assert [one.prompt for one in plan.arrivals[:4]] == ASKED
    assert limits(plan)[:4] == LIMITS
    assert stays(plan)[:8] == STAYS


@quick
@given(st.integers(0, 2**40), st.sampled_from([POISSON, CLOSED, {"kind": "ramp", "start": 0, "end": 9}]))
def test_the_same_seed_gives_the_same_bytes(seed: int, arrivals: dict[str, Any]) -> None:
    one, other = (draw(scenario(arrivals, seed=seed, disconnects={"share": 0.5})) for _ in range(2))
    assert one.canonical == other.canonical
    assert one.digest == other.digest
    assert one.digest != draw(scenario(arrivals, seed=seed + 1, disconnects={"share": 0.5})).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"prompts": SYNTHETIC},
        {"output": {"tokens": [1, 9], "temperature": 1.0}},
        {"disconnects": {"share": 0.9}},
        {"model": "other"},
    ],
)
def test_nothing_that_changes_moves_an_arrival(tokenizer: ServerTokenizer, changed: dict[str, Any]) -> None:
    assert moments(draw(scenario(**changed), tokenizer)) == moments(draw(scenario(), tokenizer))


def test_other_prompts_change_no_length_and_send_no_other_client_away(tokenizer: ServerTokenizer) -> None:
    common = {"output": {"tokens": [1, 500]}, "disconnects": {"share": 0.5}}
    golden, synthetic = draw(scenario(**common)), draw(scenario(**common, prompts=SYNTHETIC), tokenizer)
    assert limits(golden) == limits(synthetic)
    assert stays(golden) == stays(synthetic)


def test_a_longer_run_begins_as_the_shorter_does() -> None:
    short, long = (draw(scenario(duration=seconds, output={"tokens": [1, 99]})) for seconds in (20, 60))
    assert long.arrivals[: len(short.arrivals)] == short.arrivals


# --- which requests --------------------------------------------------------------------------------------------------


def test_arrivals_of_the_warm_up_are_sent_and_not_measured() -> None:
    plan = draw(scenario({"kind": "constant", "rate": 2}, warmup=1.5, duration=2))
    assert [(one.scheduled_s, one.measured) for one in plan.arrivals] == [
        (0.0, False), (0.5, False), (1.0, False), (1.5, True), (2.0, True), (2.5, True), (3.0, True),
    ]  # fmt: skip
    assert [one.index for one in plan.arrivals] == list(range(7))


@pytest.mark.parametrize(("duration", "requests", "expected"), [(5, None, 14), (5, 9, 9), (None, 30, 30), (2, 30, 8)])
def test_duration_and_count_both_end_the_run(duration: float | None, requests: int | None, expected: int) -> None:
    plan = draw(scenario({"kind": "constant", "rate": 2}, duration=duration, requests=requests))
    assert len(plan.arrivals) == expected


@pytest.mark.parametrize("fields", [{"warmup": 60, "duration": None, "requests": 5}, {"arrivals": 1e-6}])
def test_a_load_of_which_nothing_is_measured_is_refused(fields: dict[str, Any]) -> None:
    rate = fields.pop("arrivals", 5)
    with pytest.raises(NothingMeasured) as caught:
        draw(scenario({"kind": "poisson", "rate": rate}, **fields))
    assert "warm-up" in caught.value.message


@quick
@given(st.floats(0, 1), st.integers(0, 2**32))
def test_the_share_that_goes_away_is_drawn_for_each(share: float, seed: int) -> None:
    """At 6 sigma; none with a share of 0, all with 1."""
    plan = draw(scenario({"kind": "constant", "rate": 30}, seed=seed, disconnects={"share": share, "chunks": 3}))
    leaving = [one == 3 for one in stays(plan)]
    assert set(stays(plan)) <= {3, None}
    assert abs(sum(leaving) - share * len(leaving)) <= 6 * (share * (1 - share) * len(leaving)) ** 0.5 + 1e-6
    if share in (0, 1):
        assert set(leaving) == {bool(share)}


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_is_an_openai_chat_request() -> None:
    body = draw(scenario(output={"tokens": 64})).arrivals[0].body
    assert [message.keys() for message in body["messages"]] == [{"role", "content"}]
    assert body == {
        "messages": body["messages"],
        "model": "slipstream",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 64,
        "temperature": 0.0,
    }


def test_what_is_not_asked_for_is_not_sent() -> None:
    body = draw(scenario(output={"tokens": None}, stream=False, endpoint="completions")).arrivals[0].body
    assert body.keys() == {"model", "prompt", "stream", "temperature"}
    assert body["stream"] is False


def test_a_random_answer_has_a_seed_of_its_own_and_can_be_told_to_go_on() -> None:
    plan = draw(scenario(output={"temperature": 0.7, "ignore_eos": True}))
    assert len({one.body["seed"] for one in plan.arrivals}) == len(plan.arrivals)
    assert all(one.body["ignore_eos"] is True and one.body["temperature"] == 0.7 for one in plan.arrivals)


def test_the_extra_body_comes_last_and_wins() -> None:
    body = draw(scenario(extra_body={"collection": "docs", "temperature": 0.5})).arrivals[0].body
    assert (body["collection"], body["temperature"]) == ("docs", 0.5)


@pytest.mark.parametrize("extra", [{"stream": False}, {"when": pytest}, {"top_p": float("nan")}])
def test_an_extra_body_that_cannot_be_sent_or_breaks_the_reading_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(ExtraBodyInvalid):
        draw(scenario(extra_body=extra))


def test_a_prompt_of_a_file_may_limit_its_own_answer(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a", "max_tokens": 3}\n{"prompt": "b"}\n')
    plan = draw(scenario(prompts={"kind": "jsonl", "path": str(tmp_path / "prompts.jsonl")}, output={"tokens": 9}))
    assert {(one.prompt, one.body["max_tokens"]) for one in plan.arrivals} == {("line-1", 3), ("line-2", 9)}


# --- replays ---------------------------------------------------------------------------------------------------------


def test_a_trace_decides_moments_and_the_lengths_it_knows(tmp_path: Path, tokenizer: ServerTokenizer) -> None:
    arrivals = trace(
        tmp_path,
        {"timestamp": 10, "input_length": 33, "output_length": 5},
        {"timestamp": 11},
        {"timestamp": 14, "input_length": 7},
    )
    plan = draw(scenario({**arrivals, "speed": 2}, warmup=0, duration=None, output={"tokens": 99}), tokenizer)
    assert moments(plan) == [0.0, 0.5, 2.0]
    assert limits(plan) == [5, 99, 99]
    texts = [one.body["messages"][0]["content"] for one in plan.arrivals]
    assert (tokenizer.count(texts[0]), tokenizer.count(texts[2])) == (33, 7)
    assert plan.arrivals[1].prompt in {one.prompt for one in draw(scenario()).arrivals}


def test_a_trace_of_lengths_alone_opens_no_prompts(tmp_path: Path, tokenizer: ServerTokenizer) -> None:
    arrivals = trace(tmp_path, {"timestamp": 0, "input_length": 33})
    nowhere = {"kind": "jsonl", "path": str(tmp_path / "missing")}
    assert len(draw(scenario(arrivals, warmup=0, prompts=nowhere), tokenizer).arrivals) == 1
    with pytest.raises(TokenizerMissing):
        draw(scenario(arrivals, warmup=0, prompts=nowhere))


def test_a_replay_ends_with_the_run(tmp_path: Path) -> None:
    arrivals = trace(tmp_path, *({"timestamp": second} for second in range(100)))
    assert moments(draw(scenario(arrivals, warmup=2, duration=3)))[-1] == 4.0
    assert len(draw(scenario(arrivals, duration=None)).arrivals) == 100
    assert len(draw(scenario(arrivals, duration=None, requests=7)).arrivals) == 7


# --- faults that are told before anything is sent --------------------------------------------------------------------


@pytest.mark.parametrize("arrivals", [POISSON, CLOSED])
def test_prompts_that_cannot_be_asked_are_refused(tmp_path: Path, arrivals: dict[str, Any]) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        with pytest.raises(PromptsInvalid):
            draw(scenario(arrivals, prompts={"kind": "jsonl", "path": str(tmp_path / name)}))
    with pytest.raises(TokenizerMissing) as caught:
        draw(scenario(arrivals, prompts=SYNTHETIC))
    assert "--tokenizer" in caught.value.remedy


def test_a_trace_out_of_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceInvalid, match="out of order"):
        draw(scenario(trace(tmp_path, {"timestamp": 2}, {"timestamp": 1})))


def test_more_short_prompts_than_there_are_words_are_refused(tokenizer: ServerTokenizer) -> None:
    prompts = {"kind": "synthetic", "tokens": 1}
    for arrivals in ({"kind": "constant", "rate": 1000}, CLOSED):
        with pytest.raises(TokenizerUnsuitable):
            draw(scenario(arrivals, prompts=prompts), tokenizer)
    draw(scenario(CLOSED, prompts=prompts, requests=100), tokenizer)


# --- workers and users -----------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 9), st.integers(0, 60))
def test_each_arrival_is_one_workers_and_all_have_as_many(workers: int, arrivals: int) -> None:
    plan = Plan(scenario(), tuple(Planned(index, index / 8, "", {}) for index in range(arrivals)))
    shares = [plan.share(worker, workers) for worker in range(workers)]
    assert sorted(one.index for share in shares for one in share) == [one.index for one in plan.arrivals]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share, key=lambda one: one.scheduled_s or 0.0) for share in shares)


@quick
@given(st.integers(1, 40), st.integers(1, 9))
def test_each_user_is_one_workers(users: int, workers: int) -> None:
    plan = draw(scenario({"kind": "closed", "users": users}))
    ranges = [plan.users(worker, workers) for worker in range(workers)]
    assert sorted(user for one in ranges for user in one) == list(range(users))
    assert plan.arrivals == ()
    assert list(draw(scenario()).users(0, workers)) == []


@pytest.mark.parametrize(("worker", "workers"), [(-1, 2), (2, 2), (0, 0)])
def test_a_worker_that_there_is_not_has_no_share(worker: int, workers: int) -> None:
    plan = draw(scenario())
    for ask in (plan.share, plan.users):
        with pytest.raises(ValueError, match="no worker"):
            ask(worker, workers)


def asked(plan: Plan, user: int, count: int) -> list[Planned]:
    return list(islice(plan.user(user), count))


def test_users_ask_without_end_and_each_in_its_own_way(tokenizer: ServerTokenizer) -> None:
    plan = draw(scenario(CLOSED, prompts=SYNTHETIC, output={"tokens": [1, 500]}, disconnects={"share": 0.5}), tokenizer)
    streams = [asked(plan, user, 200) for user in range(5)]
    assert streams[3] == asked(plan, 3, 200)
    every = [one for stream in streams for one in stream]
    assert len({one.index for one in every}) == len({one.prompt for one in every}) == 1000
    for draws in (lambda one: one.think_s, lambda one: one.body["max_tokens"], lambda one: one.disconnect_after):
        assert len({tuple(map(draws, stream)) for stream in streams}) == 5
    assert all(one.scheduled_s is None for one in every)


def test_more_users_do_not_change_what_the_first_ones_ask() -> None:
    few, many = draw(scenario(CLOSED)), draw(scenario({**CLOSED, "users": 50}))
    assert [one.prompt for one in asked(few, 2, 60)] == [one.prompt for one in asked(many, 2, 60)]


@pytest.mark.parametrize("requests", [1, 4, 5, 23])
def test_a_count_is_shared_among_the_users(requests: int) -> None:
    plan = draw(scenario(CLOSED, duration=None, requests=requests))
    indexes = [one.index for user in range(5) for one in plan.user(user)]
    assert sorted(indexes) == list(range(requests))


@pytest.mark.parametrize(("distribution", "spread"), [("exponential", 1.0), ("constant", 0.0)])
def test_thinking_takes_its_mean_and_does_not_let_users_start_as_one(distribution: str, spread: float) -> None:
    plan = draw(scenario({"kind": "closed", "users": 3, "think": 2.0, "think_distribution": distribution}))
    pauses = [one.think_s for one in asked(plan, 0, 4000)][1:]
    mean = sum(pauses) / len(pauses)
    assert mean == pytest.approx(2.0, rel=0.08)
    deviation = (sum((pause - mean) ** 2 for pause in pauses) / len(pauses)) ** 0.5
    assert deviation / mean == pytest.approx(spread, abs=0.1)
    assert len({asked(plan, user, 1)[0].think_s for user in range(3)}) == 3


def test_who_does_not_think_asks_at_once() -> None:
    plan = draw(scenario({"kind": "closed", "users": 2}))
    assert {one.think_s for one in asked(plan, 1, 50)} == {0.0}


def test_only_a_closed_loop_has_users() -> None:
    for plan, user in ((draw(scenario()), 0), (draw(scenario(CLOSED)), 5), (draw(scenario(CLOSED)), -1)):
        with pytest.raises(ValueError, match=f"user {user}"):
            plan.user(user)


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_plan_that_was_saved_is_read_back(tmp_path: Path, tokenizer: ServerTokenizer) -> None:
    for number, plan in enumerate(
        (
            draw(scenario(output={"temperature": 1.0}, disconnects={"share": 0.5}, extra_body={"name": "Ω"})),
            draw(scenario(prompts=SYNTHETIC), tokenizer),
        )
    ):
        path = tmp_path / f"{number}.json"
        plan.save(path)
        read = Plan.read(path)
        assert read == plan
        assert read.digest == plan.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("prompts", [{"kind": "golden"}, SYNTHETIC])
def test_users_of_a_plan_that_was_read_ask_the_same(
    tmp_path: Path, tokenizer: ServerTokenizer, prompts: dict[str, Any]
) -> None:
    plan = draw(scenario(CLOSED, prompts=prompts), tokenizer)
    plan.save(tmp_path / "plan.json")
    read = Plan.read(tmp_path / "plan.json", tokenizer)
    assert read.digest == plan.digest
    assert asked(read, 4, 100) == asked(plan, 4, 100)


def test_a_closed_loop_of_synthetic_prompts_needs_the_tokenizer_that_it_was_drawn_with(
    tmp_path: Path, tokenizer: ServerTokenizer
) -> None:
    draw(scenario(CLOSED, prompts=SYNTHETIC), tokenizer).save(tmp_path / "plan.json")
    with pytest.raises(TokenizerMissing):
        Plan.read(tmp_path / "plan.json")
    with pytest.raises(PlanUnreadable, match="another tokenizer"):
        Plan.read(tmp_path / "plan.json", ServerTokenizer(write_word_piece(tmp_path / "other")))


def test_questions_asked_again_are_written_once() -> None:
    plan = draw(scenario({"kind": "constant", "rate": 100}))
    assert len(json.loads(plan.canonical)["bodies"]) == 30
    assert len(plan.canonical) < 200_000


def test_what_the_tokenizer_says_is_kept_with_the_plan(tokenizer: ServerTokenizer) -> None:
    chat, bare = (draw(scenario(endpoint=endpoint), tokenizer) for endpoint in ("chat", "completions"))
    assert chat.tokenizer_sha256 == tokenizer.sha256
    assert (chat.template_tokens, bare.template_tokens) == (tokenizer.template_tokens, None)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"format": 2}', '{"format": 1, "scenario": {}}', "null"])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanUnreadable) as caught:
        Plan.read(path)
    assert isinstance(caught.value, InputError)
    assert str(path) in caught.value.message
