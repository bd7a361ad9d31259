"""Indexing and searching from the shell while `slipstream serve` holds the index open."""

import json
import threading
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.conftest import slipstream
from tests.integration.conftest import Stack

pytestmark = pytest.mark.integration

NAME = "beside"


def place(stack: Stack) -> dict[str, str]:
    """Where the command line finds the running server."""
    return {"SLIPSTREAM_PORT": stack.base_url.rsplit(":", 1)[1]}


def index(stack: Stack, tree: Path) -> dict[str, object]:
    done = slipstream("index", str(tree), "--collection", NAME, "--json", home=stack.home, **place(stack))
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def served(stack: Stack, query: str) -> httpx.Response:
    return httpx.post(f"{stack.base_url}/v1/search", json={"query": query, "collection": NAME}, timeout=30)


def test_a_new_version_is_switched_in_while_the_server_keeps_answering(stack: Stack, tmp_path: Path) -> None:
    tree = tmp_path / "shop"
    tree.mkdir()
    (tree / "cart.py").write_text("def add_item(cart, item):\n    cart.items.append(item)\n    return cart\n")
    index(stack, tree)
    first = served(stack, "add an item").json()
    assert first["hits"][0]["path"] == "cart.py"

    done, statuses = threading.Event(), []

    def keep_asking() -> None:
        while not done.is_set():
            statuses.append(served(stack, "add an item").status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        # Another text each time: the home outlives the run, and a collection knows the chunks that it once had.
        (tree / "tax.py").write_text(f"def apply_tax(price):\n    return price * 1.2  # {uuid4().hex}\n")
        report = index(stack, tree)
    finally:
        done.set()
        asking.join()
    assert (report["embedded"], report["reused"]) == (1, 1)
    assert set(statuses) == {200}
    second = served(stack, "apply_tax").json()
    assert second["index_version"] == report["version"] != first["index_version"]
    assert second["hits"][0]["path"] == "tax.py"


def test_search_from_the_shell_gives_what_the_server_gives(stack: Stack, tmp_path: Path) -> None:
    tree = tmp_path / "shop"
    tree.mkdir()
    (tree / "cart.py").write_text("def add_item(cart, item):\n    cart.items.append(item)\n    return cart\n")
    index(stack, tree)
    expected = served(stack, "add an item").json()
    done = slipstream("search", "add an item", "--collection", NAME, "--json", home=stack.home, **place(stack))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
