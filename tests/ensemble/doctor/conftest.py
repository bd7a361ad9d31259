"""A home with a bundle, and no variables of the machine that runs the tests."""

import os
from pathlib import Path

import pytest

from tests.ensemble.doctor.homes import write_bundle, write_index


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLIPSTREAM_", "QDRANT_", "MLFLOW_", "CUDA_VISIBLE", "KUBERNETES_")):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a bundle."""
    write_bundle(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def shard(home: Path) -> Path:
    """Where the index lies that this gives to the home."""
    return write_index(home)
