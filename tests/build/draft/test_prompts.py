"""What is asked when a draft is taught and measured: prompts over real chunks, with the grammar of their contexts."""

from collections.abc import Iterator

import pytest

from slipstream.build.checkpoint import write_tokenizer
from slipstream.build.draft.prompts import Asked, EngineGaveNoAnswer, answer_all, asked_prompts
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import Emit, GenerationRequest, RuntimeMetrics, RuntimeOptions, TokenDelta
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.engines.conftest import compile_tiny_engine
from tests.tiny_llama import write_tiny_checkpoint


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")), folder)
    return ChatTokenizer(folder)


def chunks(count: int = 12) -> list[Chunk]:
    texts = [f'def f{number}():\n    """Return {number} of them."""\n' for number in range(count)]
    return [Chunk(f"m{n}.py", "python", f"f{n}", 1, 2, text, "r", digest=str(n)) for n, text in enumerate(texts)]


def test_the_grammar_cites_the_contexts_of_its_own_prompt(tokenizer: ChatTokenizer) -> None:
    asked = asked_prompts(chunks(), tokenizer, 8, 1200, seed=1)
    for one in asked:
        text = tokenizer.decode(one.prompt_ids)
        contexts = max(number for number in range(1, 9) if f"[{number}] m" in text)
        assert one.grammar == citing_grammar(contexts)
    assert len({one.grammar for one in asked}) > 1


def test_equal_arguments_give_equal_prompts_and_another_seed_others(tokenizer: ChatTokenizer) -> None:
    first, again, other = (asked_prompts(chunks(), tokenizer, 4, 1200, seed) for seed in (1, 1, 2))
    assert first == again != other


class TestAnswers:
    @pytest.fixture(scope="class")
    def runtime(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVinoRuntime]:
        loaded = OpenVinoRuntime(compile_tiny_engine(tmp_path_factory.getbasetemp()), RuntimeOptions(4, 8 << 20))
        yield loaded
        loaded.close()

    def test_come_in_the_order_of_the_questions(self, runtime: OpenVinoRuntime) -> None:
        asked = [Asked([5 + number, 7, 9], "") for number in range(6)]
        together = answer_all(runtime, asked, lambda *_: None, "together")
        assert together == [answer_all(runtime, [one], lambda *_: None, "alone")[0] for one in asked]
        assert len({tuple(answer) for answer in together}) > 1

    def test_one_that_says_nothing_is_not_waited_for_forever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("slipstream.build.draft.prompts._SILENCE_S", 0.01)

        class Mute:
            def submit(self, request: GenerationRequest, emit: Emit) -> None:
                emit(TokenDelta(request.generation_id, (5,)))

            def cancel(self, generation_id: str) -> bool:
                return False

            def metrics(self) -> RuntimeMetrics:
                return RuntimeMetrics()

            def close(self) -> None: ...

        with pytest.raises(EngineGaveNoAnswer, match="said nothing for 0 s, 0 of 2 answers ended"):
            answer_all(Mute(), [Asked([5], ""), Asked([6], "")], lambda *_: None)

    def test_one_that_fails_says_why(self, runtime: OpenVinoRuntime) -> None:
        with pytest.raises(EngineGaveNoAnswer, match="the prompt is empty"):
            answer_all(runtime, [Asked([], "")], lambda *_: None)
