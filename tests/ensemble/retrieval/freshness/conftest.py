"""A git repository, and a watch that is stepped by hand."""

from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.edge import EdgeStore
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import Recorder, function


@pytest.fixture
def index(tmp_path: Path) -> EdgeStore:
    return EdgeStore(tmp_path / "index")


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """On ``main``, one commit: four functions in three files."""
    made = GitRepository(tmp_path / "shop")
    made.commit(
        {
            "cart.py": function("add_item") + "\n\n" + function("remove_item"),
            "deep/price.py": function("round_price"),
            "tax.py": function("tax_rate"),
        }
    )
    return made


@pytest.fixture
def follower(repository: GitRepository, index: EdgeStore, embedder: Recorder) -> Follower:
    return Follower(index, embedder, repository.path)
