"""What the tests share: tokenizers of the kinds that servers have, and a server of known truth."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.loadtest.tokens import ServerTokenizer
from tests.loadtest.tokenizers_made import write_byte_level

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_level(tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> ServerTokenizer:
    return ServerTokenizer(tokenizer_folder)


@pytest.fixture(scope="module")
def mock_host() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.loadtest.mock_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as mock:
        assert mock.stdout is not None
        yield f"http://127.0.0.1:{int(mock.stdout.readline())}"
        mock.terminate()
