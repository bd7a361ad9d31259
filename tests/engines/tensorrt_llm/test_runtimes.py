"""What `slipstream.engines.protocols.Runtime` demands, of every runtime of TensorRT-LLM alike."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from slipstream.engines.protocols import GenerationRequest, Runtime, Sampling, TokenDelta
from tests.engines.conftest import Reader
from tests.engines.tensorrt_llm.conftest import Serve
from tests.engines.tensorrt_llm.toy_model import ENDING, ENDS, Picking, ToyModel

PROMPT = [10, 20, 30]
LONG = 1900
_numbers = itertools.count()


def ask(runtime: Runtime, prompt: list[int] = PROMPT, grammar: str = "", **sampling: Any) -> Reader:
    return Reader(runtime, f"g{next(_numbers)}", prompt, Sampling(**{"max_tokens": 8, **sampling}), grammar)


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def greedy(prompt: list[int], length: int) -> list[int]:
    """What the target's model picks, computed here."""
    tokens: list[int] = []
    while len(tokens) < length:
        token = ToyModel().pick(prompt + tokens, len(tokens), Picking(top_k=1))
        if token in ENDS:
            break
        tokens.append(token)
    return tokens


class TestRequestsThatCannotBe:
    @pytest.mark.parametrize(
        ("prompt", "sampling", "says"),
        [
            ([], {}, "prompt is empty"),
            ([5] * 2001, {}, "the prompt has 2001 tokens; the engine takes 2000"),
            ([5] * 2000, {"max_tokens": 49}, "make 2049 tokens; the engine holds 2048"),
            ([5, 64], {}, "outside the vocabulary of 64"),
            ([5, -1], {}, "outside the vocabulary of 64"),
            (PROMPT, {"max_tokens": 0}, "max_tokens is 0"),
            (PROMPT, {"temperature": -0.1}, "temperature is -0.1"),
            (PROMPT, {"temperature": float("nan")}, "temperature is nan"),
            (PROMPT, {"temperature": 1, "top_p": 0.0}, "top_p is 0.0"),
            (PROMPT, {"temperature": 1, "top_p": 1.5}, "top_p is 1.5"),
        ],
    )
    def test_end_with_one_error_that_says_why(
        self, runtime: Runtime, prompt: list[int], sampling: dict[str, Any], says: str
    ) -> None:
        reader = ask(runtime, prompt, **sampling)
        assert [delta.finish_reason for delta in reader.deltas] == ["error"]
        assert says in reader.deltas[0].error

    def test_an_id_that_is_live_is_refused_and_its_owner_goes_on(self, runtime: Runtime) -> None:
        first = ask(runtime, max_tokens=200)
        second = Reader(runtime, first.generation_id, PROMPT, Sampling(max_tokens=5))
        assert "is live already" in second.deltas[0].error
        assert len(first.wait().tokens) == 200

    def test_a_grammar_needs_a_tokenizer(self, serve: Serve) -> None:
        reader = ask(serve(tokenizer=None), grammar='root ::= "abc"')
        assert "loaded without a tokenizer" in reader.deltas[0].error

    def test_a_grammar_that_is_none_is_an_error_of_its_request_alone(self, runtime: Runtime) -> None:
        neighbour = ask(runtime, max_tokens=50)
        reader = ask(runtime, grammar="roots").wait()
        assert reader.ends == ["error"]
        assert "EBNF parser error" in reader.deltas[-1].error
        assert len(neighbour.wait().tokens) == 50
        assert runtime.metrics().extra["failed"] == 1


class TestCancel:
    def test_no_token_follows_and_the_slot_is_free_again(self, serve: Serve) -> None:
        runtime = serve(max_concurrency=1)
        for _ in range(3):
            reader = ask(runtime, max_tokens=LONG).wait_for(10)
            assert runtime.cancel(reader.generation_id)
            tokens = len(reader.tokens)
            began = time.monotonic()
            assert reader.wait().ends == ["cancelled"]
            assert time.monotonic() - began < 0.5  # had it gone on, it would take a second
            assert len(reader.tokens) <= tokens + 5  # what one step brings may have been on its way
            assert len(ask(runtime, max_tokens=2).wait().tokens) == 2
        assert runtime.metrics().cancelled == 3

    def test_one_that_waits_for_a_slot_is_dropped_at_once(self, runtime: Runtime) -> None:
        busy = [ask(runtime, max_tokens=LONG) for _ in range(4)]
        for reader in busy:
            reader.wait_for(1)
        waiting = ask(runtime, max_tokens=LONG)
        assert (runtime.metrics().active, runtime.metrics().waiting) == (4, 1)
        assert runtime.cancel(waiting.generation_id)
        assert waiting.wait().ends == ["cancelled"]
        assert waiting.tokens == []
        assert not any(reader.ends for reader in busy)
        for reader in busy:
            runtime.cancel(reader.generation_id)
            reader.wait()

    def test_one_that_has_just_been_submitted_never_runs_to_its_end(self, runtime: Runtime) -> None:
        for _ in range(20):
            reader = ask(runtime, max_tokens=LONG)
            assert runtime.cancel(reader.generation_id)
            assert reader.wait().ends == ["cancelled"]
        until(lambda: runtime.metrics().active == 0)

    def test_an_unknown_an_ended_and_a_cancelled_one_are_told_apart_from_a_live_one(self, runtime: Runtime) -> None:
        assert not runtime.cancel("never seen")
        assert not runtime.cancel(ask(runtime).wait().generation_id)
        live = ask(runtime, max_tokens=LONG)
        assert [runtime.cancel(live.generation_id) for _ in range(2)] == [True, False]
        live.wait()

    def test_its_place_is_free_when_its_reader_hears_of_the_end(self, runtime: Runtime) -> None:
        seen: list[int] = []
        done = threading.Event()

        def emit(delta: TokenDelta) -> None:
            if delta.finish_reason:
                seen.append(runtime.metrics().active)
                done.set()

        runtime.submit(GenerationRequest("slot", PROMPT, Sampling(max_tokens=LONG)), emit)
        runtime.cancel("slot")
        assert done.wait(20)
        assert seen == [0]


class TestReaders:
    def test_one_that_raises_is_dropped_and_its_neighbour_is_not(self, runtime: Runtime) -> None:
        calls: list[TokenDelta] = []

        def broken(delta: TokenDelta) -> None:
            calls.append(delta)
            raise ValueError("broken reader")

        runtime.submit(GenerationRequest("broken", PROMPT, Sampling(max_tokens=LONG)), broken)
        assert len(ask(runtime, max_tokens=50).wait().tokens) == 50
        until(lambda: runtime.metrics().active == 0, 0.9)
        assert [call.finish_reason for call in calls] == [None, "cancelled"]

    def test_one_that_cancels_and_submits_in_its_callback_hears_of_the_end_next(self, runtime: Runtime) -> None:
        ends: list[str | None] = []
        follower: list[Reader] = []

        def emit(delta: TokenDelta) -> None:
            ends.append(delta.finish_reason)
            if delta.finish_reason:
                follower.append(ask(runtime, max_tokens=3))
            else:
                runtime.cancel("first")

        runtime.submit(GenerationRequest("first", PROMPT, Sampling(max_tokens=LONG)), emit)
        until(lambda: bool(follower))
        assert ends == [None, "cancelled"]
        assert len(follower[0].wait().tokens) == 3


class TestLoad:
    def test_more_requests_than_slots_all_get_their_tokens(self, runtime: Runtime) -> None:
        readers = [ask(runtime, [10 + number] * 5, max_tokens=20 + number) for number in range(24)]
        assert [len(reader.wait().tokens) for reader in readers] == [20 + number for number in range(24)]
        assert all(reader.ends == ["length"] for reader in readers)

    def test_requests_and_cancels_from_many_threads_end_exactly_once(self, runtime: Runtime) -> None:
        readers: list[Reader] = []

        def client(seed: int) -> None:
            choose = random.Random(seed)  # noqa: S311
            for _ in range(20):
                prompt = [choose.randrange(10, 60)] * choose.randrange(1, 60)
                readers.append(ask(runtime, prompt, max_tokens=choose.randrange(1, 30)))
                if choose.random() < 0.5:
                    time.sleep(choose.random() / 100)
                    runtime.cancel(readers[-1].generation_id)

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        ends = [reader.wait().ends for reader in readers]
        assert all(len(end) == 1 for end in ends)
        after = runtime.metrics()
        assert (after.active, after.waiting) == (0, 0)
        assert after.cancelled == ends.count(["cancelled"])
        assert after.tokens_generated == sum(len(reader.tokens) for reader in readers)


class TestTokens:
    def test_max_tokens_is_the_length(self, runtime: Runtime) -> None:
        for length in (1, 2, 33):
            reader = ask(runtime, max_tokens=length).wait()
            assert (len(reader.tokens), reader.ends) == (length, ["length"])

    def test_greedy_is_what_the_model_picks_alone_and_among_others(self, runtime: Runtime) -> None:
        prompts = [[10 + number] * (number + 3) for number in range(8)]
        readers = [ask(runtime, prompt, max_tokens=40) for prompt in prompts]
        assert [reader.wait().tokens for reader in readers] == [greedy(prompt, 40) for prompt in prompts]

    def test_a_seed_repeats_and_no_seed_does_not(self, runtime: Runtime) -> None:
        def sampled(seed: int | None) -> list[int]:
            return ask(runtime, max_tokens=24, temperature=1.5, seed=seed).wait().tokens

        assert sampled(1) == sampled(1)
        assert sampled(1) != sampled(2)
        assert sampled(None) != sampled(None)
        assert len(sampled(2**80)) == 24

    def test_a_cold_nucleus_leaves_only_the_likeliest(self, runtime: Runtime) -> None:
        assert ask(runtime, max_tokens=24, temperature=1.0, top_p=1e-6, seed=4).wait().tokens == greedy(PROMPT, 24)

    @pytest.mark.parametrize("second", [0, 1])
    def test_either_end_token_ends_and_is_not_handed_out(self, runtime: Runtime, second: int) -> None:
        prompt = [ENDING] + [11] * (38 if second else 60)
        reader = ask(runtime, prompt, max_tokens=200).wait()
        assert (reader.tokens, reader.ends) == (greedy(prompt, 200), ["stop"])
        assert 0 < len(reader.tokens) < 40

    def test_ends_that_are_ignored_are_never_picked(self, runtime: Runtime) -> None:
        reader = ask(runtime, [ENDING] + [11] * 38, max_tokens=100, ignore_eos=True).wait()
        assert (len(reader.tokens), reader.ends) == (100, ["length"])
        assert not set(reader.tokens) & set(ENDS)

    def test_a_grammar_is_followed_and_ends_the_text(self, runtime: Runtime) -> None:
        reader = ask(runtime, grammar='root ::= "abc"', max_tokens=50).wait()
        assert (reader.tokens, reader.ends) == ([ord(letter) % 64 for letter in "abc"], ["stop"])


class TestClose:
    def test_cancels_what_is_live_and_refuses_what_comes(self, serve: Serve) -> None:
        runtime = serve(max_concurrency=1)
        readers = [ask(runtime, max_tokens=LONG) for _ in range(3)]
        readers[0].wait_for(1)
        runtime.close()
        assert [reader.ends for reader in readers] == [["cancelled"]] * 3
        assert "shutting down" in ask(runtime).deltas[0].error
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tensorrt-llm")]
        runtime.close()
