"""The OpenVINO runtime: every request ends exactly once, whatever happens to it, to its reader or to the engine."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from slipstream.engines.host import probe_host
from slipstream.engines.openvino import arithmetic, engine_process
from slipstream.engines.openvino.engine_process import EngineNotLoaded
from slipstream.engines.openvino.pipeline import (
    PREFILL_TOKENS,
    EngineConfig,
    EngineUnreadable,
    add_request,
    load_pipeline,
)
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from tests.engines.conftest import Reader, with_eos

PROMPT = [72, 101, 108, 108, 111]
_numbers = itertools.count()


def ask(runtime: OpenVinoRuntime, prompt: list[int] = PROMPT, **sampling: Any) -> Reader:
    return Reader(runtime, f"g{next(_numbers)}", prompt, Sampling(**{"max_tokens": 8, **sampling}))


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestRequestsThatCannotBe:
    @pytest.mark.parametrize(
        ("prompt", "sampling", "says"),
        [
            ([], {}, "prompt is empty"),
            ([5] * 2049, {}, "make 2057 tokens; the engine holds 2048"),
            ([5] * 2048, {"max_tokens": 1}, "make 2049 tokens; the engine holds 2048"),
            ([5, 320], {}, "outside the vocabulary of 320"),
            ([5, -1], {}, "outside the vocabulary of 320"),
            (PROMPT, {"max_tokens": 0}, "max_tokens is 0"),
            (PROMPT, {"temperature": -0.1}, "temperature is -0.1"),
            (PROMPT, {"temperature": float("nan")}, "temperature is nan"),
            (PROMPT, {"temperature": 1, "top_p": 0.0}, "top_p is 0.0"),
            (PROMPT, {"temperature": 1, "top_p": 1.5}, "top_p is 1.5"),
        ],
    )
    def test_end_with_one_error_that_says_why(
        self, runtime: OpenVinoRuntime, prompt: list[int], sampling: dict[str, Any], says: str
    ) -> None:
        reader = ask(runtime, prompt, **sampling)
        assert [delta.finish_reason for delta in reader.deltas] == ["error"]
        assert says in reader.deltas[0].error

    def test_an_id_that_is_live_is_refused_and_its_owner_goes_on(self, runtime: OpenVinoRuntime) -> None:
        first = ask(runtime, max_tokens=200)
        second = Reader(runtime, first.generation_id, PROMPT, Sampling(max_tokens=5))
        assert "is live already" in second.deltas[0].error
        assert len(first.wait().tokens) == 200

    def test_one_that_outgrows_the_cache_is_refused_with_the_limit(self, engine: Path) -> None:
        small = OpenVinoRuntime(engine, RuntimeOptions(kv_cache_bytes=1))
        try:
            assert "the engine holds 64" in ask(small, max_tokens=60).deltas[0].error
            assert len(ask(small, max_tokens=59).wait().tokens) == 59
        finally:
            small.close()


BF16 = {"avx512_bf16", "amx_bf16"}


@pytest.mark.parametrize(
    ("isa", "is_exact"),
    [
        (set(), False),
        pytest.param(BF16, False, marks=pytest.mark.skipif(not BF16 & probe_host().isa, reason="a CPU without bf16")),
        (set(), True),
    ],
)
def test_the_cache_takes_the_bytes_it_was_granted_and_no_more(
    engine: Path, monkeypatch: pytest.MonkeyPatch, isa: set[str], is_exact: bool
) -> None:
    monkeypatch.setattr(arithmetic, "probe_host", lambda: SimpleNamespace(isa=isa))
    options = RuntimeOptions(kv_cache_bytes=2**20, batch_invariant=is_exact)
    config = EngineConfig(engine, options)
    pipeline = load_pipeline(engine, options, config)
    request = GenerationRequest("one", PROMPT, Sampling(max_tokens=1))
    add_request(pipeline, 0, request, config)
    pipeline.step()
    assert 0.98 * 2**20 < pipeline.get_metrics().cache_size_in_bytes <= 2**20


class TestCancel:
    def test_no_token_follows_and_the_engine_stops_within_a_step(self, runtime: OpenVinoRuntime) -> None:
        readers = [ask(runtime, max_tokens=2000) for _ in range(4)]
        for reader in readers:
            reader.wait_for(10)
            assert runtime.cancel(reader.generation_id)
            tokens = len(reader.tokens)
            assert reader.wait().ends == ["cancelled"]
            assert len(reader.tokens) <= tokens + 1  # the reader may have been on its way
        steps = runtime.metrics().extra["steps"]
        time.sleep(0.3)  # hundreds of steps, had it gone on
        ask(runtime, max_tokens=5).wait()  # would wait for 2000 more, had they kept their slots
        freeing, of_the_last = 1, 5
        assert runtime.metrics().extra["steps"] - steps <= freeing + of_the_last

    def test_nothing_is_left_in_the_cache(self, runtime: OpenVinoRuntime) -> None:
        reader = ask(runtime, max_tokens=1500).wait_for(10)
        assert runtime.metrics().cache_usage_ratio > 0
        runtime.cancel(reader.generation_id)
        reader.wait()
        assert runtime.metrics().cache_usage_ratio == 0

    def test_one_that_waits_for_a_slot_is_dropped_at_once(self, runtime: OpenVinoRuntime) -> None:
        busy = [ask(runtime, max_tokens=1500) for _ in range(4)]
        waiting = ask(runtime, max_tokens=1500)
        assert runtime.metrics().waiting == 1
        assert runtime.cancel(waiting.generation_id)
        assert waiting.wait().ends == ["cancelled"]
        assert waiting.tokens == []
        assert not any(reader.ends for reader in busy)
        for reader in busy:
            runtime.cancel(reader.generation_id)
            reader.wait()

    def test_an_unknown_an_ended_and_a_cancelled_one_are_told_apart_from_a_live_one(
        self, runtime: OpenVinoRuntime
    ) -> None:
        assert not runtime.cancel("never seen")
        assert not runtime.cancel(ask(runtime).wait().generation_id)
        live = ask(runtime, max_tokens=1500)
        assert [runtime.cancel(live.generation_id) for _ in range(2)] == [True, False]
        live.wait()

    def test_its_slot_is_free_when_its_reader_hears_of_the_end(self, runtime: OpenVinoRuntime) -> None:
        seen: list[int] = []
        done = threading.Event()

        def emit(delta: TokenDelta) -> None:
            if delta.finish_reason:
                seen.append(runtime.metrics().active)
                done.set()

        runtime.submit(GenerationRequest("slot", PROMPT, Sampling(max_tokens=1500)), emit)
        runtime.cancel("slot")
        assert done.wait(20)
        assert seen == [0]


class TestReaders:
    def test_one_that_raises_is_dropped_and_its_neighbour_is_not(self, runtime: OpenVinoRuntime) -> None:
        calls: list[TokenDelta] = []

        def broken(delta: TokenDelta) -> None:
            calls.append(delta)
            raise ValueError("broken reader")

        runtime.submit(GenerationRequest("broken", PROMPT, Sampling(max_tokens=1500)), broken)
        assert len(ask(runtime, max_tokens=50).wait().tokens) == 50
        until(lambda: runtime.metrics().active == 0)
        assert calls[-1].finish_reason == "cancelled"
        assert len(calls) == 2

    def test_one_that_cancels_and_submits_in_its_callback_hears_of_the_end_next(self, runtime: OpenVinoRuntime) -> None:
        deltas: list[TokenDelta] = []
        follower: list[Reader] = []

        def emit(delta: TokenDelta) -> None:
            deltas.append(delta)
            if delta.finish_reason:
                follower.append(ask(runtime, max_tokens=3))
            else:
                time.sleep(0.05)  # dozens of tokens arrive meanwhile
                runtime.cancel("first")

        runtime.submit(GenerationRequest("first", PROMPT, Sampling(max_tokens=1500)), emit)
        until(lambda: bool(follower))
        assert [(len(delta.token_ids), delta.finish_reason) for delta in deltas] == [(1, None), (0, "cancelled")]
        assert len(follower[0].wait().tokens) == 3


class TestLoad:
    def test_more_requests_than_the_cache_holds_all_get_their_tokens(self, engine: Path) -> None:
        scarce = OpenVinoRuntime(engine, RuntimeOptions(max_concurrency=8, kv_cache_bytes=70_000))
        try:
            readers = [ask(scarce, [65 + number] * 5, max_tokens=100 + number) for number in range(24)]
            assert [len(reader.wait().tokens) for reader in readers] == [100 + number for number in range(24)]
            assert all(reader.ends == ["length"] for reader in readers)
        finally:
            scarce.close()

    def test_one_that_waited_finds_the_prefix_that_its_predecessor_left(self, engine: Path) -> None:
        single = OpenVinoRuntime(engine, RuntimeOptions(max_concurrency=1, kv_cache_bytes=4 * 2**20))
        try:
            prompt, prefill_steps = [65, 66, 67, 68] * PREFILL_TOKENS, 4
            readers = [ask(single, prompt, max_tokens=4) for _ in range(2)]
            assert [len(reader.wait().tokens) for reader in readers] == [4, 4]
            one_prefill_step, decode_steps = 1, 3
            assert single.metrics().extra["steps"] == prefill_steps + one_prefill_step + 2 * decode_steps
        finally:
            single.close()

    def test_an_idle_engine_costs_no_cpu(self, runtime: OpenVinoRuntime) -> None:
        ask(runtime).wait()
        time.sleep(0.1)
        process = psutil.Process(runtime.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(0.5)
        assert sum(process.cpu_times()[:2]) - before < 0.03

    def test_requests_and_cancels_from_many_threads_end_exactly_once(self, runtime: OpenVinoRuntime) -> None:
        readers: list[Reader] = []

        def client(seed: int) -> None:
            choose = random.Random(seed)  # noqa: S311
            for _ in range(40):
                reader = ask(
                    runtime, [choose.randrange(3, 259)] * choose.randrange(1, 60), max_tokens=choose.randrange(1, 30)
                )
                readers.append(reader)
                if choose.random() < 0.5:
                    time.sleep(choose.random() / 100)
                    runtime.cancel(reader.generation_id)

        before = runtime.metrics()
        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        ends = [reader.wait().ends for reader in readers]
        assert all(len(end) == 1 for end in ends)
        after = runtime.metrics()
        assert (after.active, after.waiting) == (0, 0)
        assert after.cancelled - before.cancelled == ends.count(["cancelled"])
        assert after.tokens_generated - before.tokens_generated == sum(len(reader.tokens) for reader in readers)


class TestTokens:
    def test_max_tokens_is_the_length(self, runtime: OpenVinoRuntime) -> None:
        for length in (1, 2, 33):
            reader = ask(runtime, max_tokens=length).wait()
            assert (len(reader.tokens), reader.ends) == (length, ["length"])

    def test_greedy_is_the_same_alone_and_among_others(self, runtime: OpenVinoRuntime) -> None:
        prompts = [[65 + number] * (number + 3) for number in range(4)]
        alone = [ask(runtime, prompt, max_tokens=16).wait().tokens for prompt in prompts]
        together = [ask(runtime, prompt, max_tokens=16) for prompt in prompts]
        assert [reader.wait().tokens for reader in together] == alone

    def test_a_seed_repeats_and_no_seed_does_not(self, runtime: OpenVinoRuntime) -> None:
        def sampled(seed: int | None) -> list[int]:
            return ask(runtime, max_tokens=16, temperature=1.5, seed=seed).wait().tokens

        assert sampled(1) == sampled(1)
        assert sampled(1) != sampled(2)
        assert sampled(None) != sampled(None)

    def test_the_end_token_ends_and_is_not_handed_out(
        self, runtime: OpenVinoRuntime, engine: Path, tmp_path: Path
    ) -> None:
        free = ask(runtime, max_tokens=12, temperature=1.5, seed=3).wait().tokens
        end = next(token for position, token in enumerate(free) if position >= 4 and token not in free[:position])
        stopping = OpenVinoRuntime(with_eos(engine, end, tmp_path / "engine"), RuntimeOptions(kv_cache_bytes=1))
        try:
            reader = ask(stopping, max_tokens=12, temperature=1.5, seed=3).wait()
            assert (reader.tokens, reader.ends) == (free[: free.index(end)], ["stop"])
            ignoring = ask(stopping, max_tokens=50, temperature=1.5, seed=3, ignore_eos=True).wait()
            assert (len(ignoring.tokens), ignoring.ends) == (50, ["length"])
            assert end not in ignoring.tokens
        finally:
            stopping.close()


class TestEngineProcess:
    def test_a_crash_ends_live_requests_with_an_error_and_another_engine_takes_over(self, engine: Path) -> None:
        runtime = OpenVinoRuntime(engine, RuntimeOptions(max_concurrency=1, kv_cache_bytes=2**20))
        try:
            readers = [ask(runtime, max_tokens=1500) for _ in range(2)]
            readers[0].wait_for(1)
            os.kill(runtime.pid, signal.SIGKILL)
            assert [reader.wait().ends for reader in readers] == [["error"], ["error"]]
            assert "SIGKILL" in readers[0].deltas[-1].error
            assert "restarting" in ask(runtime).deltas[0].error
            until(lambda: runtime.metrics().extra["restarts"] == 1)
            assert len(ask(runtime).wait().tokens) == 8
        finally:
            runtime.close()

    def test_close_cancels_what_is_live_and_leaves_no_process(self, engine: Path) -> None:
        runtime = OpenVinoRuntime(engine, RuntimeOptions(max_concurrency=1, kv_cache_bytes=2**20))
        process = psutil.Process(runtime.pid)
        readers = [ask(runtime, max_tokens=1500) for _ in range(3)]
        readers[0].wait_for(1)
        runtime.close()
        assert [reader.ends for reader in readers] == [["cancelled"]] * 3
        assert not process.is_running()
        assert "shutting down" in ask(runtime).deltas[0].error
        runtime.close()

    def test_it_ends_when_the_runtime_is_killed(self, engine: Path) -> None:
        script = (
            "import sys, time; from pathlib import Path\n"
            "from slipstream.engines.openvino.runtime import OpenVinoRuntime\n"
            "from slipstream.engines.protocols import *\n"
            "runtime = OpenVinoRuntime(Path(sys.argv[1]), RuntimeOptions(kv_cache_bytes=2**20))\n"
            "runtime.submit(GenerationRequest('long', [5], Sampling(max_tokens=1500)), lambda delta: None)\n"
            "loaded = [name for name in sys.modules if name.startswith(('openvino', 'numpy'))]\n"
            "print(runtime.pid, loaded, flush=True); time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script, engine], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid, loaded = parent.stdout.readline().split(maxsplit=1)
            parent.kill()
        assert loaded.strip() == "[]"  # the caller's process stays free of the engine, which would hold its GIL
        until(lambda: not psutil.pid_exists(int(pid)), 5)

    @pytest.mark.parametrize("damaged", [False, True])
    def test_it_ends_in_silence_when_the_runtime_is_gone_before_it_is_ready(
        self, engine: Path, tmp_path: Path, damaged: bool
    ) -> None:
        folder = with_eos(engine, 2, tmp_path / "engine")
        if damaged:
            (folder / "openvino_model.xml").write_text("<net/>")
        ours, theirs = socket.socketpair()
        ours.close()
        command = [sys.executable, "-m", "slipstream.engines.openvino.worker", str(folder)]
        options = ["--socket", str(theirs.fileno()), "--slots", "1", "--kv-cache-bytes", str(2**20)]
        with theirs:
            done = subprocess.run(
                [*command, *options], pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
            )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    def test_a_folder_without_configuration_is_no_engine(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnreadable, match="not an OpenVINO engine"):
            OpenVinoRuntime(tmp_path, RuntimeOptions())

    def test_an_engine_that_could_never_stop_is_refused(self, engine: Path, tmp_path: Path) -> None:
        endless = with_eos(engine, 2, tmp_path / "engine")
        config = endless / "config.json"
        config.write_text(config.read_text().replace('"eos_token_id": [2]', '"eos_token_id": null'))
        with pytest.raises(EngineUnreadable, match="names no end-of-sequence token"):
            OpenVinoRuntime(endless, RuntimeOptions())

    def test_an_engine_whose_model_is_damaged_does_not_load(self, engine: Path, tmp_path: Path) -> None:
        damaged = with_eos(engine, 2, tmp_path / "engine")
        (damaged / "openvino_model.xml").write_text("<net/>")
        with pytest.raises(EngineNotLoaded, match="does not load"):
            OpenVinoRuntime(damaged, RuntimeOptions())

    def test_an_engine_that_hangs_while_loading_is_ended(
        self, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_process, "LOAD_TIMEOUT_S", 4.0)
        hanging = with_eos(engine, 2, tmp_path / "engine")
        (hanging / "openvino_model.xml").unlink()
        os.mkfifo(hanging / "openvino_model.xml")
        before = psutil.Process().children()
        with pytest.raises(EngineNotLoaded, match="not ready after 4 s"):
            OpenVinoRuntime(hanging, RuntimeOptions())
        assert psutil.Process().children() == before
