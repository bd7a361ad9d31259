"""Decoding by a grammar: what the OpenVINO runtime may pick, for each request of a batch on its own."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil
import pytest

from slipstream.engines.openvino.engine_process import EngineNotLoaded
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.vocabulary import token_bytes, with_end
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling, TokenDelta
from tests.engines.conftest import Reader, write_vocabulary

SMILEY = "😀".encode()
PIECES = [b"a", b"b", b"ab", b"]", b"1].", " ё".encode(), SMILEY[:2], SMILEY[2:], b"\x03", b"x\x03"]
PROMPT = [3, 4, 5]
NONE = ("root ::= (", 'root ::= "a', "root ::= nothing", "root ::= [b-a]", "root ::= [", "root", "root ::= \x00")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def runtime(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVinoRuntime]:
    tokenizer = write_vocabulary(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json", PIECES)
    options = RuntimeOptions(max_concurrency=8, kv_cache_bytes=4 * 1024**2, tokenizer=tokenizer)
    loaded = OpenVinoRuntime(engine, options)
    yield loaded
    loaded.close()


def ask(runtime: OpenVinoRuntime, grammar: str, max_tokens: int = 30, seed: int = 0) -> Reader:
    sampling = Sampling(max_tokens=max_tokens, temperature=2.0, seed=seed)
    return Reader(runtime, f"g{next(_numbers)}", PROMPT, sampling, grammar)


def spelled(reader: Reader) -> bytes:
    return b"".join(PIECES[token - 3] for token in reader.wait().tokens)


class TestUgly:
    def test_without_a_tokenizer_a_grammar_is_refused_and_nothing_else(self, engine: Path) -> None:
        bare = OpenVinoRuntime(engine, RuntimeOptions(kv_cache_bytes=2**20))
        try:
            assert "loaded without a tokenizer" in ask(bare, 'root ::= "a"').deltas[0].error
            assert ask(bare, "").wait().ends == ["length"]
        finally:
            bare.close()

    @pytest.mark.parametrize(
        "content", ["", "[]", '{"model": {}}', '{"added_tokens": [], "model": {"vocab": {" ": 1}}}']
    )
    def test_what_is_no_byte_level_vocabulary_is_none(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "tokenizer.json"
        path.write_text(content)
        with pytest.raises((ValueError, KeyError, TypeError)):
            token_bytes(path, 320, [2])

    def test_a_tokenizer_of_a_larger_model_is_refused_at_load(self, engine: Path, tmp_path: Path) -> None:
        path = write_vocabulary(tmp_path / "tokenizer.json", [str(number).encode() for number in range(318)])
        with pytest.raises(EngineNotLoaded, match="320 is outside the engine's vocabulary of 320"):
            OpenVinoRuntime(engine, RuntimeOptions(kv_cache_bytes=1, tokenizer=path))

    def test_a_grammar_without_a_root_is_refused_and_its_neighbours_go_on(self, runtime: OpenVinoRuntime) -> None:
        neighbour = ask(runtime, "", max_tokens=50)
        assert "one rule 'root'" in ask(runtime, 'start ::= "a"').wait().deltas[-1].error
        assert neighbour.wait().ends == ["length"]

    @pytest.mark.parametrize("grammar", NONE)
    def test_what_is_no_grammar_is_refused_again_and_again_and_its_neighbours_go_on(
        self, runtime: OpenVinoRuntime, grammar: str
    ) -> None:
        alone = ask(runtime, "", max_tokens=60).wait().tokens
        pid, neighbour = runtime.pid, ask(runtime, "", max_tokens=60)
        for _ in range(2):
            reader = ask(runtime, grammar).wait()
            assert (reader.ends, reader.tokens) == (["error"], [])
            assert "the grammar cannot be followed: " in reader.deltas[-1].error
        assert neighbour.wait().tokens == alone
        assert (runtime.pid, runtime.metrics().extra["restarts"]) == (pid, 0)

    def test_one_that_no_token_can_begin_ends_instead_of_hanging(self, runtime: OpenVinoRuntime) -> None:
        pid = runtime.pid
        assert ask(runtime, 'root ::= "z"').wait().ends
        assert ask(runtime, "").wait().ends == ["length"]
        assert runtime.pid == pid


class TestPicks:
    def test_only_sentences_of_the_grammar_come_out_whatever_is_sampled(self, runtime: OpenVinoRuntime) -> None:
        readers = [ask(runtime, 'root ::= ("a" | "b") "ab"? "]"', seed=seed) for seed in range(24)]
        assert {spelled(reader) for reader in readers} == {b"a]", b"b]", b"aab]", b"bab]"}
        assert {reader.ends[0] for reader in readers} == {"stop"}

    def test_a_token_that_goes_beyond_what_is_allowed_is_not_picked_for_its_beginning(
        self, runtime: OpenVinoRuntime
    ) -> None:
        assert spelled(ask(runtime, 'root ::= "1]." | "a" [1]')) == b"1]."

    def test_a_character_in_two_tokens_is_one_character(self, runtime: OpenVinoRuntime) -> None:
        readers = [ask(runtime, "root ::= [\\U0001F600-\\U0001F64F] [а-яё ]+", 9, seed) for seed in range(4)]
        assert all(spelled(reader).startswith(SMILEY + " ё".encode()) for reader in readers)

    def test_the_end_comes_only_where_a_sentence_may_end(self, runtime: OpenVinoRuntime) -> None:
        readers = [ask(runtime, 'root ::= [ab]* "]" [ab]*', 400, seed) for seed in range(16)]
        ended = [spelled(reader) for reader in readers if reader.wait().ends == ["stop"]]
        assert len(ended) > 8
        assert all(text.count(b"]") == 1 for text in ended)

    def test_max_tokens_cuts_all_the_same(self, runtime: OpenVinoRuntime) -> None:
        reader = ask(runtime, 'root ::= [ab]* "]" "]" "]" "]"', max_tokens=3)
        assert (len(reader.wait().tokens), reader.ends) == (3, ["length"])

    def test_each_request_of_a_batch_follows_its_own_grammar(self, runtime: OpenVinoRuntime) -> None:
        grammars = ("root ::= [a]+ [0]", "root ::= [b]+ [0]", "")
        readers = [ask(runtime, grammars[seed % 3], 40, seed) for seed in range(9)]
        picked = [set(reader.wait().tokens) for reader in readers]
        assert picked[0::3] == [{3}] * 3
        assert picked[1::3] == [{4}] * 3
        assert min(map(len, picked[2::3])) > 10


class TestCancel:
    def test_takes_hold_within_a_step_and_leaves_nothing(self, runtime: OpenVinoRuntime) -> None:
        seconds: list[float] = []
        for seed in range(9):
            reader = ask(runtime, "root ::= [ab] [ab]+ [0]", 1500, seed).wait_for(5)
            asked = time.monotonic()
            assert runtime.cancel(reader.generation_id)
            assert reader.wait().ends == ["cancelled"]
            seconds.append(time.monotonic() - asked)
        assert median(seconds) < 0.2
        now = runtime.metrics()
        assert (now.active, now.waiting, now.cache_usage_ratio) == (0, 0, 0.0)

    def test_many_requests_with_one_grammar_take_no_more_memory(self, runtime: OpenVinoRuntime) -> None:
        grammar = "root ::= [ab]+ [0]"

        def serve(count: int) -> int:
            for seed in range(0, count, 8):
                for reader in [ask(runtime, grammar, 20, seed + at) for at in range(8)]:
                    reader.wait()
            return int(psutil.Process(runtime.pid).memory_info().rss)

        before = serve(160)
        assert serve(240) - before < 4e6


class TestCompiling:
    """``LONG`` takes some tenths of a second."""

    LONG = "root ::= " + " | ".join(f'"{"ab" * (number % 50)}" [ab]+ "{number}"' for number in range(1000))

    def test_a_new_grammar_lets_others_pass_and_then_holds(self, runtime: OpenVinoRuntime) -> None:
        running = ask(runtime, "", max_tokens=200).wait_for(3)
        grammar = self.LONG + ' | "]"'
        slow, quick = ask(runtime, grammar, 4), ask(runtime, "", 4)
        quick.wait()
        assert not slow.deltas
        before = len(running.tokens)
        assert set(slow.wait().tokens) <= {3, 4, 5, 6}
        assert len(running.tokens) > before

    def test_what_is_still_compiled_can_be_cancelled(self, runtime: OpenVinoRuntime) -> None:
        slow = ask(runtime, self.LONG + ' | "b]"', 1000)
        assert runtime.cancel(slow.generation_id)
        assert (slow.wait().ends, slow.tokens) == (["cancelled"], [])
        assert ask(runtime, "").wait().ends == ["length"]

    def test_what_is_named_at_load_is_compiled_when_the_engine_is_ready(self, engine: Path, tmp_path: Path) -> None:
        tokenizer = write_vocabulary(tmp_path / "tokenizer.json", PIECES)
        options = RuntimeOptions(kv_cache_bytes=2**20, tokenizer=tokenizer, grammars=('root ::= "a"', self.LONG))
        loaded = OpenVinoRuntime(engine, options)
        try:
            ended: list[str] = []
            for name, grammar in (("known", self.LONG), ("free", "")):
                request = GenerationRequest(name, PROMPT, Sampling(1), grammar)
                loaded.submit(request, lambda delta: ended.append(delta.generation_id))
            while len(ended) < 2:
                time.sleep(0.01)
            assert ended == ["known", "free"]
        finally:
            loaded.close()

    def test_what_is_named_at_load_and_is_none_is_refused_there(self, engine: Path, tmp_path: Path) -> None:
        tokenizer = write_vocabulary(tmp_path / "tokenizer.json", PIECES)
        with pytest.raises(EngineNotLoaded, match="the grammar cannot be followed: "):
            OpenVinoRuntime(engine, RuntimeOptions(kv_cache_bytes=1, tokenizer=tokenizer, grammars=("root ::= (",)))


def test_every_byte_has_the_letter_that_byte_level_vocabularies_give_it(tmp_path: Path) -> None:
    every = [bytes([byte]) for byte in range(256) if byte != 3]
    path = write_vocabulary(tmp_path / "tokenizer.json", every)
    assert token_bytes(path, 300, [2])[3 : 3 + len(every)] == every


def test_only_stop_tokens_spell_the_end(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "tokenizer.json", [b"a\x03", b"\x03", b"a"])
    assert token_bytes(path, 8, [2, 0]) == [b"\x03", b"", b"\x03", b"", b"", b"a", b"", b""]
    assert with_end('root ::= "a"').splitlines()[-1] == 'root ::= sentence "\\x03"?'


def test_the_time_to_compile_a_grammar_is_paid_once(runtime: OpenVinoRuntime) -> None:
    """Else every request would wait for it, and with it every other of the batch."""
    letters = " | ".join(f'"a" "{"b" * number}" [ab]+ "]"' for number in range(60))
    seconds: list[float] = []
    for _ in range(4):
        done = threading.Event()
        started = time.perf_counter()

        def emit(delta: TokenDelta, done: threading.Event = done) -> None:
            if delta.finish_reason:
                done.set()

        name = f"g{next(_numbers)}"
        runtime.submit(GenerationRequest(name, PROMPT, Sampling(max_tokens=1), f"root ::= {letters}"), emit)
        assert done.wait(20)
        seconds.append(time.perf_counter() - started)
    assert min(seconds[1:]) < seconds[0]
