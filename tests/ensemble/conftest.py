"""What tests of embedding share."""

from pathlib import Path

import pytest

from tests.tiny_bert import export_tiny_embedder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedder; tests that damage one copy it."""
    out = tmp_path_factory.mktemp("tiny") / "embedder"
    export_tiny_embedder(out)
    return out
