"""What the backend's XGrammar is told of a vocabulary."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.tensorrt_llm.runtime.served import EngineUnreadable
from slipstream.engines.tensorrt_llm.runtime.tokenizer_info import write_tokenizer_folder, write_tokenizer_info
from tests.engines.conftest import write_vocabulary
from tests.engines.tensorrt_llm.conftest import served_engine
from tests.ensemble.words import write_tokenizer

PIECES = [b"a", b" b", "ы".encode()[:1]]


def told(tmp_path: Path, tokenizer: Path) -> dict[str, Any]:
    write_tokenizer_info(tokenizer, served_engine("engine"), tmp_path / "info.json")
    info: dict[str, Any] = json.loads((tmp_path / "info.json").read_text())
    return info


def test_every_token_stands_at_its_id_as_the_tokenizer_writes_it(tmp_path: Path) -> None:
    info = told(tmp_path, write_vocabulary(tmp_path / "tokenizer.json", PIECES))
    assert info["encoded_vocab"][3:7] == ["a", "Ġb", "Ñ", ""]
    assert len(info["encoded_vocab"]) == 64


def test_special_tokens_spell_nothing_and_ends_are_told_by_id(tmp_path: Path) -> None:
    info = told(tmp_path, write_vocabulary(tmp_path / "tokenizer.json", PIECES))
    assert info["encoded_vocab"][:3] == ["", "", ""]
    assert info["stop_token_ids"] == [2, 3]


def test_the_tokenizer_comes_along_for_how_it_writes_bytes(tmp_path: Path) -> None:
    tokenizer = write_vocabulary(tmp_path / "tokenizer.json", PIECES)
    assert told(tmp_path, tokenizer)["tokenizer_str"] == tokenizer.read_text()


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path: Path) -> None:
    tokenizer = write_vocabulary(tmp_path / "tokenizer.json", [bytes([65 + number]) for number in range(62)])
    with pytest.raises(EngineUnreadable, match="no tokenizer of this engine"):
        told(tmp_path, tokenizer)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreadable):
        told(tmp_path, tmp_path / "missing.json")


def test_transformers_loads_the_folder_and_knows_the_end(tmp_path: Path) -> None:
    """TensorRT-LLM loads it so, and takes the one end token that it tells for what may end a text."""
    from transformers import AutoTokenizer

    written = write_tokenizer(tmp_path / "bundle")
    engine = served_engine("engine").model_copy(update={"vocabulary_size": 512, "eos_token_ids": (1, 2)})
    write_tokenizer_folder(tmp_path / "bundle" / "tokenizer.json", engine, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.eos_token_id == 1
    text = "no yes [1] ж"
    assert loaded.encode(text) == written.encode(text)


def test_an_end_that_the_tokenizer_lacks_is_refused(tmp_path: Path) -> None:
    tokenizer = write_vocabulary(tmp_path / "tokenizer.json", PIECES)
    engine = served_engine("engine").model_copy(update={"eos_token_ids": (63,)})
    with pytest.raises(EngineUnreadable, match="no tokenizer of this engine"):
        write_tokenizer_folder(tokenizer, engine, tmp_path)
