"""Golden questions through the real embedder, the real search and the real engine of the default bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.build.golden.answers import GoldenAnswers, agreement, answer
from slipstream.build.golden.contexts import GoldenPrompt, retrieve_contexts
from slipstream.build.golden.questions import GoldenSet
from slipstream.build.golden.report import evaluate
from slipstream.engines.protocols import Runtime, RuntimeOptions
from slipstream.engines.registry import runtime
from slipstream.ensemble import citations
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return find_bundle(home / "bundles")


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> ChatTokenizer:
    return ChatTokenizer(bundle.tokenizer_dir)


@pytest.fixture(scope="module")
def prompts(bundle: Bundle, tokenizer: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[GoldenPrompt]:
    """Three questions about our own module of citations, and one that it does not answer."""
    work = tmp_path_factory.mktemp("golden")
    source = work / "cited"
    source.mkdir()
    text = Path(citations.__file__).read_text(encoding="utf-8")
    (source / "citations.py").write_text(text, encoding="utf-8")
    lines = text.split("\n")

    def asked(name: str, question: str) -> dict[str, object]:
        first = next(number for number, line in enumerate(lines, 1) if line.startswith(f"def {name}("))
        span = {"path": "citations.py", "line_start": first, "line_end": first + 1, "symbol": name}
        return {"id": name.replace("_", "-"), "use": "gate", "question": question, "answers": [span]}

    golden = GoldenSet.model_validate(
        {
            "sources": [str(source)],
            "questions": [
                asked("cited_numbers", "What does cited_numbers return?"),
                asked("resolve", "What does resolve do with foreign numbers?"),
                asked("without_marks", "Что делает `without_marks`?"),
                {"id": "volcano", "use": "gate", "question": "When did the volcano of Krakatoa erupt?"},
            ],
        }
    )
    embedder, serving = bundle.embedder_dir, bundle.manifest.serving
    return retrieve_contexts(golden, embedder, tokenizer, serving, work, lambda share, doing: None)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Runtime]:
    options = RuntimeOptions(tokenizer=bundle.tokenizer_dir / TOKENIZER)
    loaded = runtime(bundle.manifest.engine.target, bundle.engine_dir, options)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def given(prompts: list[GoldenPrompt], bundle: Bundle, engine: Runtime, tokenizer: ChatTokenizer) -> GoldenAnswers:
    return answer(prompts, engine, tokenizer, bundle.manifest.serving, lambda share, doing: None)


def test_what_is_found_answers_and_what_is_not_there_is_declined(prompts: list[GoldenPrompt]) -> None:
    assert [bool(one.declined) for one in prompts] == [False, False, False, True]
    assert all(not context.problem for one in prompts for context in one.contexts)


def test_every_answer_is_decoded_by_the_grammar_and_cites_what_was_shown(
    prompts: list[GoldenPrompt], given: GoldenAnswers
) -> None:
    report = evaluate(prompts, given)
    assert report.citation_validity == 1.0
    assert all(row.citations for row in report.rows if not row.declined and not row.cut)
    assert report.rows[3].passed


def test_tokens_are_those_of_the_text(given: GoldenAnswers, tokenizer: ChatTokenizer) -> None:
    for one in given.answers[:3]:
        assert tokenizer.decode(one.token_ids) == one.raw == one.text
        assert not set(one.token_ids) & set(tokenizer.eos_token_ids)


def test_one_at_a_time_the_same_engine_answers_the_same(
    prompts: list[GoldenPrompt], bundle: Bundle, engine: Runtime, tokenizer: ChatTokenizer
) -> None:
    serving = bundle.manifest.serving
    sides = [answer(prompts, engine, tokenizer, serving, lambda share, doing: None, streams=1) for _ in range(2)]
    common = agreement(*sides).common_prefix
    assert common is not None
    assert common > 0.5  # a cached prefix may change the last bits of a sum
