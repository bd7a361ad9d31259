"""Speculation on OpenVINO: the same picks as without, counted, inside the KV cache that was granted, and cancelled."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream.engines.openvino import arithmetic
from slipstream.engines.openvino.arithmetic import BLOCK_TOKENS
from slipstream.engines.openvino.pipeline import EngineConfig, EngineUnreadable
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.speculation import Account, Lookup, as_words, from_words
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import QuantizationSpec, RuntimeOptions, Sampling, Speculation
from tests.engines.conftest import Reader, with_eos, write_vocabulary
from tests.tiny_llama import write_tiny_checkpoint

_numbers = itertools.count()
KV_CACHE_BYTES = 4 * 1024**2


def options(method: Any, tokens: int, engine: Path | None = None, **more: Any) -> RuntimeOptions:
    speculation = Speculation(method, tokens, engine=engine)
    return RuntimeOptions(max_concurrency=8, kv_cache_bytes=KV_CACHE_BYTES, speculation=speculation, **more)


@dataclass(frozen=True)
class Model:
    checkpoint: Path
    engine: Path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return compile_wandering(tmp_path_factory.mktemp("whole"), layers=2)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A draft of its first layer: right now and then."""
    return compile_wandering(tmp_path_factory.mktemp("cut"), layers=1)


@pytest.fixture(scope="module")
def engine(whole: Model) -> Path:
    return whole.engine


def compile_wandering(folder: Path, layers: int) -> Model:
    """A tiny model with an output layer of its own: one that is its embedding as well says the last token again."""
    import torch
    from transformers import AutoModelForCausalLM

    model = Model(folder / "checkpoint", folder / "engine")
    quantized = folder / "quantized"
    for path in (model.checkpoint, model.engine, quantized):
        path.mkdir()
    write_tiny_checkpoint(model.checkpoint, hidden=128)
    loaded = AutoModelForCausalLM.from_pretrained(model.checkpoint)
    loaded.config.tie_word_embeddings = False
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        loaded.lm_head.weight = torch.nn.Parameter(torch.randn_like(loaded.lm_head.weight))
        for weight in loaded.model.layers.parameters():
            weight *= 4 if weight.dim() == 2 else 1
    loaded.model.layers, loaded.config.num_hidden_layers = loaded.model.layers[:layers], layers
    loaded.save_pretrained(model.checkpoint)
    target = OpenVinoTarget()
    target.quantize(model.checkpoint, QuantizationSpec(method="none"), [], quantized, lambda *_: None)
    target.compile(quantized, model.engine, lambda *_: None)
    return model


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pieces = [bytes([byte]) for byte in range(256)]
    return write_vocabulary(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json", pieces)


@pytest.fixture(scope="module")
def plain(engine: Path, vocabulary: Path) -> Iterator[OpenVinoRuntime]:
    invariant = RuntimeOptions(8, KV_CACHE_BYTES, tokenizer=vocabulary, batch_invariant=True)
    loaded = OpenVinoRuntime(engine, invariant)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module", params=["prompt_lookup", "cut draft", "the engine as its draft"])
def speculating(
    request: pytest.FixtureRequest, engine: Path, cut: Model, vocabulary: Path
) -> Iterator[OpenVinoRuntime]:
    """Refused nearly always, now and then, and nearly never."""
    draft = {"cut draft": cut.engine, "the engine as its draft": engine}.get(request.param)
    loaded = OpenVinoRuntime(engine, options("draft" if draft else "prompt_lookup", 3, draft, tokenizer=vocabulary))
    yield loaded
    loaded.close()


def ask(
    runtime: OpenVinoRuntime, prompt: Sequence[int], max_tokens: int = 24, grammar: str = "", **sampling: Any
) -> Reader:
    return Reader(runtime, f"s{next(_numbers)}", list(prompt), Sampling(max_tokens, **sampling), grammar)


def picks(reader: Reader) -> list[int]:
    """Every token that was picked, the end of the sequence among them."""
    return [*reader.wait().tokens, *([2] if reader.ends == ["stop"] else [])]


def prompts(count: int) -> list[list[int]]:
    """Some share a beginning of more than a KV block; together they are more than a step reads."""
    random = Random(3)  # noqa: S311
    shared = [random.randrange(3, 250) for _ in range(BLOCK_TOKENS + 8)]
    lengths = [random.randint(4, 90) for _ in range(count)]
    return [
        [*(shared if number % 3 == 0 else ()), *(random.randrange(3, 250) for _ in range(length))]
        for number, length in enumerate(lengths)
    ]


class TestUgly:
    def test_a_draft_of_another_vocabulary_is_refused_before_anything_is_loaded(
        self, engine: Path, tmp_path: Path
    ) -> None:
        other = with_eos(engine, 7, tmp_path / "other")
        with pytest.raises(EngineUnreadable, match="is no draft for"):
            OpenVinoRuntime(engine, options("draft", 3, other))

    @pytest.mark.parametrize("draft", [None, Path("nothing")])
    def test_a_draft_that_is_not_there_is_refused(self, engine: Path, draft: Path | None) -> None:
        with pytest.raises(EngineUnreadable):
            OpenVinoRuntime(engine, options("draft", 3, draft))

    def test_the_engine_needs_no_tokenizer_for_a_draft(self, engine: Path) -> None:
        runtime = OpenVinoRuntime(engine, options("draft", 2, engine))
        try:
            assert ask(runtime, [72, 101]).wait().ends == ["length"]
        finally:
            runtime.close()

    @pytest.mark.parametrize("max_tokens", [1, 2, 3, 5])
    def test_an_answer_never_gets_longer_than_allowed(self, speculating: OpenVinoRuntime, max_tokens: int) -> None:
        reader = ask(speculating, [72, 101, 72, 101], max_tokens, ignore_eos=True).wait()
        assert (len(reader.tokens), reader.ends) == (max_tokens, ["length"])

    def test_what_is_cancelled_in_the_middle_leaves_its_neighbours_alone(self, speculating: OpenVinoRuntime) -> None:
        long = [ask(speculating, [5 + number, 9] * 4, 500, ignore_eos=True) for number in range(3)]
        for reader in long:
            reader.wait_for(5)
        assert speculating.cancel(long[1].generation_id)
        assert long[1].wait().ends == ["cancelled"]
        for reader in (long[0], long[2]):
            assert speculating.cancel(reader.generation_id)
            reader.wait()
        alone = ask(speculating, [1, 2, 3], 16, ignore_eos=True).wait().tokens
        assert len(alone) == 16

    def test_more_than_the_cache_holds_waits_and_ends(self, engine: Path) -> None:
        capacity = 256
        invariant, fast = (EngineConfig(engine, RuntimeOptions(batch_invariant=one)) for one in (True, False))
        granted = (invariant.block_bytes + fast.block_bytes) * capacity // BLOCK_TOKENS
        speculation = Speculation("draft", 3, engine=engine)
        runtime = OpenVinoRuntime(engine, RuntimeOptions(8, granted, speculation=speculation))
        try:
            readers = [ask(runtime, [5 + number] * 60, 40, ignore_eos=True) for number in range(6)]
            assert [reader.wait().ends for reader in readers] == [["length"]] * 6
            assert [len(reader.tokens) for reader in readers] == [40] * 6
        finally:
            runtime.close()


class TestPicks:
    def test_over_a_hundred_prompts_greedy_output_is_what_it_is_without(
        self, plain: OpenVinoRuntime, speculating: OpenVinoRuntime
    ) -> None:
        asked = prompts(100)
        expected = [ask(plain, prompt) for prompt in asked]
        answered = [ask(speculating, prompt) for prompt in asked]
        assert [picks(reader) for reader in answered] == [picks(reader) for reader in expected]

    def test_an_answer_alone_is_the_answer_among_others(self, plain: OpenVinoRuntime) -> None:
        asked = prompts(40)
        together = [ask(plain, prompt) for prompt in asked]
        picked = [picks(reader) for reader in together]
        assert [picks(ask(plain, prompt)) for prompt in asked] == picked

    def test_a_grammar_holds(self, speculating: OpenVinoRuntime) -> None:
        grammar = 'root ::= ("ab" [0-9])+ "]"'
        readers = [ask(speculating, prompt, 60, grammar) for prompt in prompts(8)]
        texts = [bytes(token - 3 for token in reader.wait().tokens).decode() for reader in readers]
        assert {reader.ends[0] for reader in readers} <= {"stop", "length"}
        assert all(re.fullmatch(r"(ab\d)+(\]|ab?|)", text) for text in texts)
        assert speculating.metrics().extra["restarts"] == 0

    def test_sampling_picks_what_it_picks_without(self, plain: OpenVinoRuntime, speculating: OpenVinoRuntime) -> None:
        asked = list(enumerate(prompts(24)))
        how = {"temperature": 0.3, "max_tokens": 4, "ignore_eos": True}
        expected = [ask(plain, prompt, seed=seed, **how) for seed, prompt in asked]
        answered = [ask(speculating, prompt, seed=seed, **how) for seed, prompt in asked]
        picked = [reader.wait().tokens for reader in answered]
        assert all(len(tokens) == 4 for tokens in picked)
        assert picked == [reader.wait().tokens for reader in expected]

    def test_it_stops_where_the_model_stops(self, engine: Path, tmp_path: Path, plain: OpenVinoRuntime) -> None:
        answers = [(prompt, ask(plain, prompt, 12, ignore_eos=True).wait().tokens) for prompt in prompts(20)]
        prompt, picked, place = next(
            (prompt, picked, at) for prompt, picked in answers for at in range(3, 9) if picked[at] not in picked[:at]
        )
        stopping = with_eos(engine, picked[place], tmp_path / "engine")
        runtime = OpenVinoRuntime(stopping, options("draft", 4, stopping))
        try:
            reader = ask(runtime, prompt, 12).wait()
            assert (reader.tokens, reader.ends) == (picked[:place], ["stop"])
        finally:
            runtime.close()


class TestCounts:
    def test_accepted_tokens_save_steps(self, speculating: OpenVinoRuntime) -> None:
        before = speculating.metrics()
        tokens = len(ask(speculating, [60, 61, 62] * 6, 200, ignore_eos=True).wait().tokens)
        after = speculating.metrics()
        accepted = after.accepted - before.accepted
        assert 0 < accepted <= after.proposed - before.proposed
        assert tokens - accepted <= after.extra["steps"] - before.extra["steps"] <= tokens - accepted + 2

    def test_a_draft_that_is_the_engine_is_nearly_always_right(self, engine: Path) -> None:
        runtime = OpenVinoRuntime(engine, options("draft", 3, engine))
        try:
            for prompt in prompts(8):
                ask(runtime, prompt, 25, ignore_eos=True).wait()
            metrics = runtime.metrics()
            assert metrics.accepted / metrics.proposed > 0.85
            assert metrics.proposed >= 8 * 17
        finally:
            runtime.close()

    def test_without_speculation_nothing_is_proposed(self, plain: OpenVinoRuntime) -> None:
        ask(plain, [60, 61] * 5).wait()
        assert (plain.metrics().proposed, plain.metrics().accepted) == (0, 0)

    def test_a_draft_shares_the_cache_that_was_granted(self, engine: Path) -> None:
        alone = EngineConfig(engine, RuntimeOptions(kv_cache_bytes=KV_CACHE_BYTES, batch_invariant=True))
        draft = EngineConfig(engine, RuntimeOptions())
        both = EngineConfig(engine, options("draft", 3, engine))
        assert both.kv_blocks == KV_CACHE_BYTES // (alone.block_bytes + draft.block_bytes)

    @pytest.mark.parametrize(
        ("isa", "scale_bytes", "bytes_each"),
        [({"avx2", "avx512f"}, 8 * (64 + BLOCK_TOKENS), 1), ({"avx512_bf16"}, 0, 2), ({"amx_bf16"}, 0, 2)],
    )
    def test_keys_and_values_take_what_is_planned_for_them(
        self, engine: Path, monkeypatch: pytest.MonkeyPatch, isa: set[str], scale_bytes: int, bytes_each: int
    ) -> None:
        monkeypatch.setattr(arithmetic, "probe_host", lambda: SimpleNamespace(isa=isa))
        fast, invariant = (EngineConfig(engine, RuntimeOptions(batch_invariant=one)) for one in (False, True))
        # two layers, keys and values, one head of 64
        assert invariant.block_bytes == 2 * 2 * BLOCK_TOKENS * 64 * 4
        assert fast.block_bytes == 2 * (2 * BLOCK_TOKENS * 64 * bytes_each + scale_bytes)


class TestLookup:
    def test_it_continues_the_first_occurrence_of_the_longest_run(self) -> None:
        assert Lookup([1, 2, 3, 9, 2, 3, 8, 8, 1, 2, 3], 3).found() == 8
        assert Lookup([7, 3, 1, 3], 3).found() == 2

    def test_what_never_stood_before_finds_nothing(self) -> None:
        assert Lookup([1, 2, 3, 4], 3).found() == 0
        assert Lookup([1], 3).found() == 0

    def test_what_was_generated_is_looked_up_as_well(self) -> None:
        lookup = Lookup([1, 2], 2)
        lookup.extend([5, 6, 1, 2])
        assert lookup.found() == 4

    def test_the_account_counts_what_was_found_and_what_stayed(self) -> None:
        account = Account(Speculation("prompt_lookup", 4), [1, 2, 3, 1], 10)
        account.step([2])  # the first token is nobody's proposal; now "1, 2" continues with "3, 1, 2"
        account.step([3, 1, 9])
        assert account.take() == (3, 2)
        assert account.take() == (0, 0)

    def test_nothing_is_proposed_for_the_last_token(self) -> None:
        account = Account(Speculation("draft", 4), [1], 3)
        account.step([2])
        account.step([3, 4])
        assert account.take() == (1, 1)


@pytest.mark.parametrize("engine_dir", [None, Path("/somewhere else/draft")])
def test_a_speculation_survives_the_command_line(engine_dir: Path | None) -> None:
    speculation = Speculation("draft", 5, 2, engine_dir)
    assert from_words(as_words(speculation)) == speculation
