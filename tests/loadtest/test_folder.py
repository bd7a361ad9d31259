"""What a run's folder knows of the server: the identity of what it serves, whatever else it says."""

import os
from typing import Any

import pytest

from slipstream.loadtest.folder import host_facts, server_facts
from slipstream.profiling.telemetry.machine import read_counters

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


def test_the_cores_are_the_machines_as_its_telemetry_counts_them() -> None:
    whole = os.sched_getaffinity(0)
    one = min(whole)
    os.sched_setaffinity(0, {one})
    try:
        pinned = host_facts()
    finally:
        os.sched_setaffinity(0, whole)
    machine = len(read_counters().busy_s)
    assert pinned["cores"] == str(machine)
    assert pinned.get("cores for the load") == ("1" if machine > 1 else None)


def test_a_machine_that_may_be_used_whole_says_its_cores_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    facts = host_facts()
    assert facts["cores"] == "3"
    assert "cores for the load" not in facts
