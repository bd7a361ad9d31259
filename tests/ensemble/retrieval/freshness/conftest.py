"""A git repository, and a watch that is stepped by hand."""

from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.freshness import history
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import Recorder, function


@pytest.fixture(autouse=True)
def always_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version starts from the one before, though these trees are so small that most of their files change."""
    monkeypatch.setattr(history, "_MOST_CHANGED", 10.0)


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
