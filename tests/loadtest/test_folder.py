"""What a run's folder knows of the server: the identity of what it serves, whatever else it says."""

from typing import Any

import pytest

from slipstream.loadtest.folder import server_facts

SERVED = {
    "collection": "code",
    "version": "20261122T005207-71e41aab",
    "chunks": 1458,
    "facts": {"sources_sha256": "73a0"},
}
METADATA: dict[str, Any] = {
    "version": "0.1.0",
    "default_collection": "code",
    "bundle": {"id": "75e68665210cfcce", "release_name": "production-v0.1", "engine": {"target": "openvino"}},
    "collections": [SERVED | {"collection": "other", "version": "elsewhere"}, SERVED],
}


def test_bundle_and_index_of_the_default_collection_are_named() -> None:
    bundle, index, facts = server_facts(METADATA)
    assert (bundle, index) == ("75e68665210cfcce", "20261122T005207-71e41aab")
    assert facts == {
        "release": "production-v0.1", "target": "openvino", "collection": "code", "chunks": "1458", "sources": "73a0",
        "version": "0.1.0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [None, {}, {"bundle": "x", "collections": 3}, {"collections": [None, {"facts": 1}], "bundle": {"engine": "x"}}],
)
def test_another_server_has_neither(said: dict[str, Any] | None) -> None:
    assert server_facts(said) == ("", "", {})


def test_a_server_that_cannot_list_its_collections_has_a_bundle() -> None:
    said = METADATA | {"collections": None, "collections_error": "the index is being moved"}
    assert server_facts(said)[:2] == ("75e68665210cfcce", "")
