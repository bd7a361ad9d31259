"""No command loads the embedder of a bundle that the settings do not trust; a server is not the only one that loads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main
from slipstream.ensemble.signing.keys import write_pair
from tests.conftest import ROOT


@pytest.fixture
def key(tmp_path: Path) -> str:
    return str(write_pair(tmp_path / "release.pem", None).path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "cart.py").write_text("def add_item(cart):\n    return cart\n")
    return tmp_path / "shop"


def run(*arguments: object, **env: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)


def test_an_unsigned_embedder_is_refused_where_a_signature_is_demanded(home: Path, tree: Path, key: str) -> None:
    assert run("index", tree).exit_code == 0
    before = (home / "index" / "code" / "CURRENT").read_text()
    demand = {"SLIPSTREAM_VERIFY_KEY": key, "SLIPSTREAM_REQUIRE_SIGNATURE": "true"}
    for command in (["index", tree], ["search", "add an item"], ["evaluate-search", ROOT / "tests" / "retrieval"]):
        refused = run(*command, **demand)
        assert refused.exit_code == 1, command
        assert "is not signed" in refused.stderr, command
    assert (home / "index" / "code" / "CURRENT").read_text() == before


def test_where_none_is_demanded_it_is_warned_of_beside_the_document(home: Path, tree: Path, key: str) -> None:
    for command in (["index", tree], ["search", "add an item"]):
        done = run(*command, "--json", SLIPSTREAM_VERIFY_KEY=key)
        assert done.exit_code == 0, done.output
        assert "bundle.unsigned" in done.stderr, command
        json.loads(done.stdout)
