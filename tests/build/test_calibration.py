"""Calibration text: of what it is made, that it is repeatable, and where indexed collections come in."""

from dataclasses import replace
from pathlib import Path

import pytest

from slipstream.build.calibration import (
    NothingToCalibrateOn,
    calibration_sequences,
    held_back,
    serving_prompts,
    source_chunks,
)
from slipstream.build.checkpoint import write_tokenizer
from slipstream.build.golden.questions import GoldenQuestion, GoldSpan
from slipstream.build.options import Calibration
from slipstream.ensemble.retrieval.errors import CollectionNotFound
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.build.library import COLLECTION, index_library, source
from tests.tiny_llama import write_tiny_checkpoint


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(write_tiny_checkpoint(folder / "llama"), folder / "tokenizer")
    return ChatTokenizer(folder / "tokenizer")


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> list[Chunk]:
    folder = tmp_path_factory.mktemp("mill")
    for thing in ("ledger", "barge", "sluice"):
        (folder / f"{thing}.py").write_text(source("mill", thing))
    return source_chunks([str(folder)])


def golden(chunks: list[Chunk], reference: str = "It opens the ledger.") -> GoldenQuestion:
    chunk = next(chunk for chunk in chunks if chunk.symbol == "open_mill_ledger")
    span = GoldSpan(
        path=chunk.path, line_start=chunk.line_start, line_end=chunk.line_end, symbol=chunk.symbol or ""
    )  # fmt: skip
    return GoldenQuestion(
        id="ledger", use="calibration", question="Which door leads to the ledger?", answers=(span,), reference=reference
    )


def test_the_share_that_was_asked_for_is_code_as_it_stands(chunks: list[Chunk], tokenizer: ChatTokenizer) -> None:
    options = Calibration(sequences=8, tokens=256, plain=0.25)
    found = calibration_sequences(chunks, tokenizer, options)
    whole = "\n".join(chunk.text for chunk in chunks)
    plain = [ids for ids in found if tokenizer.decode(ids)[4:-4] in whole]
    assert (len(found), len(plain)) == (8, 2)
    assert found.index(plain[0]) < 4  # kinds alternate: a target that observes a few sees both
    assert all(len(ids) <= 256 for ids in found)
    assert calibration_sequences(chunks, tokenizer, options) == found
    assert calibration_sequences(chunks, tokenizer, options.model_copy(update={"seed": 8})) != found


@pytest.mark.parametrize(("plain", "shown"), [(0.0, 4), (1.0, 0)])
def test_either_kind_may_be_all(chunks: list[Chunk], tokenizer: ChatTokenizer, plain: float, shown: int) -> None:
    found = calibration_sequences(chunks, tokenizer, Calibration(sequences=4, tokens=256, plain=plain))
    assert sum("[1]" in tokenizer.decode(ids) for ids in found) == shown


def test_golden_questions_are_asked_with_the_chunk_that_answers(chunks: list[Chunk], tokenizer: ChatTokenizer) -> None:
    options = Calibration(sequences=4, tokens=2048, plain=0)
    texts = [tokenizer.decode(ids) for ids in calibration_sequences(chunks, tokenizer, options, [golden(chunks)])]
    (asked,) = [text for text in texts if "Which door" in text]
    assert "def open_mill_ledger" in asked
    assert "It opens the ledger [" in asked


def test_a_question_that_nothing_here_answers_is_not_asked(chunks: list[Chunk], tokenizer: ChatTokenizer) -> None:
    options = Calibration(sequences=4, tokens=1024, plain=0)
    without = calibration_sequences(chunks, tokenizer, options)
    elsewhere = [chunk for chunk in chunks if chunk.symbol != "open_mill_ledger"]
    assert calibration_sequences(chunks, tokenizer, options, [golden(chunks, reference="")]) == without
    texts = map(tokenizer.decode, calibration_sequences(elsewhere, tokenizer, options, [golden(chunks)]))
    assert not any("Which door" in text for text in texts)


def test_prompts_to_measure_with_are_others_than_those_calibrated_on(
    chunks: list[Chunk], tokenizer: ChatTokenizer
) -> None:
    seen = calibration_sequences(chunks, tokenizer, Calibration(sequences=8, tokens=1024, plain=0, seed=7))
    prompts = serving_prompts(chunks, tokenizer, 8, 1024, seed=7)
    assert not [ids for ids in prompts if any(one[: len(ids)] == ids for one in seen)]


def test_an_indexed_collection_is_a_source(tmp_path: Path) -> None:
    settings = index_library(tmp_path)
    found = source_chunks([f"collection:{COLLECTION}"], settings)
    assert {chunk.repo for chunk in found} == {"harbor", "mill", "orchard"}
    places = [(chunk.repo, chunk.path, chunk.line_start) for chunk in found]
    assert places == sorted(places)
    with pytest.raises(CollectionNotFound):
        source_chunks(["collection:nowhere"], settings)


def test_what_is_measured_on_is_held_back_wherever_it_stands(chunks: list[Chunk]) -> None:
    moved = replace(chunks[3], path="vendored/copy.py", line_start=900)
    left = held_back([*chunks, moved], {chunks[3].text})
    assert left == [chunk for chunk in chunks if chunk is not chunks[3]]


def test_too_little_besides_what_is_measured_on_is_told(chunks: list[Chunk]) -> None:
    with pytest.raises(NothingToCalibrateOn, match="hold 2 chunks of code beside those that answer golden questions"):
        held_back(chunks, {chunk.text for chunk in chunks[2:]})
