"""The default bundle's engine: a greedy answer is the same alone and among others, with speculation and without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.build.draft.prompts import Asked, answer_all
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import RuntimeOptions, Speculation
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.grammar import citing_grammar
from slipstream.ensemble.prompt import render_messages
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.tokenizer import TOKENIZER, ChatTokenizer

pytestmark = pytest.mark.integration

ENSEMBLE = Path(__file__).parents[3] / "ensemble"
PROMPTS, ALONE, CHARACTERS = 100, 20, 200


@pytest.fixture(scope="module")
def bundle(home: Path) -> Bundle:
    return find_bundle(home / "bundles")


@pytest.fixture(scope="module")
def asked(bundle: Bundle) -> list[Asked]:
    """Questions about pieces of our own code, decoded by the grammar that answers with one context follow."""
    tokenizer = ChatTokenizer(bundle.tokenizer_dir)
    files = sorted(ENSEMBLE.rglob("*.py"))
    chunks = [chunk for file in files for chunk in chunk_file(str(file), file.read_bytes(), "ensemble")]
    texts = [chunk.text for chunk in chunks if len(chunk.text) >= CHARACTERS]
    questions = [f"What does this do?\n{text[:CHARACTERS]}" for text in texts[:: len(texts) // PROMPTS]][:PROMPTS]
    return [Asked(tokenizer.encode_chat(render_messages(one, ())), citing_grammar(1)) for one in questions]


@pytest.fixture(scope="module")
def without(bundle: Bundle, asked: list[Asked]) -> Iterator[tuple[OpenVinoRuntime, list[list[int]]]]:
    """The engine without speculation, and what it answers when all are asked at once."""
    runtime = loaded(bundle, None)
    yield runtime, answer_all(runtime, asked, lambda *_: None)
    runtime.close()


def loaded(bundle: Bundle, speculation: Speculation | None) -> OpenVinoRuntime:
    tokenizer = bundle.tokenizer_dir / TOKENIZER
    return OpenVinoRuntime(
        bundle.engine_dir, RuntimeOptions(tokenizer=tokenizer, speculation=speculation, batch_invariant=True)
    )


@pytest.mark.parametrize("method", ["prompt_lookup", "the engine as its own draft"])
def test_over_a_hundred_prompts_greedy_output_is_token_for_token_what_it_is_without_speculation(
    bundle: Bundle, asked: list[Asked], without: tuple[OpenVinoRuntime, list[list[int]]], method: str
) -> None:
    lookup, itself = Speculation("prompt_lookup", 4), Speculation("draft", 3, engine=bundle.engine_dir)
    runtime = loaded(bundle, lookup if method == "prompt_lookup" else itself)
    try:
        answers = answer_all(runtime, asked, lambda *_: None)
        metrics = runtime.metrics()
    finally:
        runtime.close()
    assert len(answers) == PROMPTS
    assert sum(map(len, answers)) > 10 * PROMPTS
    assert answers == without[1]
    assert 0 < metrics.accepted <= metrics.proposed


def test_an_answer_alone_is_the_answer_among_others(
    asked: list[Asked], without: tuple[OpenVinoRuntime, list[list[int]]]
) -> None:
    runtime, together = without
    few = asked[:: len(asked) // ALONE][:ALONE]
    answers = [answer for one in few for answer in answer_all(runtime, [one], lambda *_: None)]
    assert answers == together[:: len(asked) // ALONE][:ALONE]
