"""What the backend's XGrammar is told of a vocabulary."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.tensorrt_llm.runtime.served import EngineUnreadable
from slipstream.engines.tensorrt_llm.runtime.tokenizer_info import write_tokenizer_info
from tests.engines.conftest import write_vocabulary
from tests.engines.tensorrt_llm.conftest import served_engine

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
