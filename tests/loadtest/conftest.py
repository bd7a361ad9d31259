"""What the tests share: tokenizers of the kinds that servers have, a mock server, and a scenario for it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipstream.loadtest.schedule.tokens import ServerTokenizer
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


def write_scenario(folder: Path, **fields: Any) -> Path:
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "p{number}"}}\n' for number in range(50)))
    base = {
        "arrivals": {"kind": "poisson", "rate": 30},
        "prompts": {"kind": "jsonl", "path": str(folder / "prompts.jsonl")},
        "warmup": 0.5,
        "duration": 1.5,
        "extra_body": {"mock": {"chunks": 5, "rate": 50, "first_s": 0.02}},
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(base | fields))
    return path
