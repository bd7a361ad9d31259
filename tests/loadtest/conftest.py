"""Tokenizers of the kinds that servers have, made once."""

from pathlib import Path

import pytest

from slipstream.loadtest.tokens import ServerTokenizer
from tests.loadtest.tokenizers_made import write_byte_level


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level(tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> ServerTokenizer:
    return ServerTokenizer(tokenizer_folder)
