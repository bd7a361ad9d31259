"""A finished bundle as a model version of its own, called by its release name and linked to the adapter in it.

The version belongs to the adapter's run, where MLflow's pages list it, and its tags name adapter and base model. With a
SQLite registry ``source`` is the bundle's folder: a copy beside the database would cost the disk as much again for
nothing. A server's registry is read on other machines, and a server refuses a folder of its clients as a source, so the
files are uploaded there, into the artifacts of the adapter's run (of a run of its own without an adapter).

On SQLite a bundle that is registered already is found without importing MLflow: a build with nothing to do is faster
than that import.
"""

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipstream.build.mlflow_client import database_of, experiment_id, open_client
from slipstream.build.model_versions import (
    ModelVersion,
    ensure_model,
    find_tagged_in_sqlite,
    find_tagged_with_mlflow,
)
from slipstream.build.registry import Registry
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import AdapterLineage, Manifest

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BUNDLE = "slipstream.bundle"
"""Version tag: the bundle's id."""

_ARTIFACTS = "bundles"  # folder of a run's artifacts, with a folder for each bundle


@dataclass(frozen=True)
class RegisteredBundle:
    """The model version of a bundle.

    Attributes:
        name: the release name.
        run_id: the run of the adapter in it; empty where there is none.
        source: where the files are: the folder, or the artifacts of a server.
        is_new: whether it was not registered before.
    """

    name: str
    version: str
    run_id: str
    source: str
    is_new: bool


def register_bundle(registry: Registry, bundle: Bundle) -> RegisteredBundle:
    """Make ``bundle`` a version of the model called by its release name; the same bundle is one version.

    Raises:
        RegistryUnavailable: nobody answers at the registry's URI.
    """
    name, bundle_id = bundle.manifest.release_name, bundle.manifest.id
    if (known := _without_mlflow(registry, name, bundle_id)) is not None:
        return _registered(known, is_new=False)
    with open_client(registry.uri) as client:
        if (known := find_tagged_with_mlflow(client, name, BUNDLE, bundle_id)) is not None:
            return _registered(known, is_new=False)
        made = _create(client, registry, bundle)
        first = find_tagged_with_mlflow(client, name, BUNDLE, bundle_id) or made
        if first.version != made.version:  # another build of the same bundle was faster
            client.delete_model_version(name, made.version)
    return _registered(first, is_new=first.version == made.version)


def _without_mlflow(registry: Registry, name: str, bundle_id: str) -> ModelVersion | None:
    database = database_of(registry.uri)
    if database is None:
        return None
    try:
        return find_tagged_in_sqlite(database, name, BUNDLE, bundle_id)
    except sqlite3.Error:  # not there, another schema, a lock: MLflow knows its own database best
        return None


def _create(client: "MlflowClient", registry: Registry, bundle: Bundle) -> ModelVersion:
    manifest = bundle.manifest
    run_id = _adapter_run(client, manifest.lineage.adapter)
    if database_of(registry.uri) is not None:
        source = bundle.path.resolve().as_uri()
    else:
        run_id = run_id or _own_run(client, registry.uri, manifest.release_name)
        client.log_artifacts(run_id, str(bundle.path), f"{_ARTIFACTS}/{manifest.id}")
        source = f"{client.get_run(run_id).info.artifact_uri}/{_ARTIFACTS}/{manifest.id}"
    ensure_model(client, manifest.release_name)
    return ModelVersion.of(
        client.create_model_version(manifest.release_name, source, run_id or None, tags=_tags(manifest))
    )


def _adapter_run(client: "MlflowClient", adapter: AdapterLineage | None) -> str:
    """The adapter's run; empty if it has none, or that one is not in this registry (any more)."""
    from mlflow.exceptions import MlflowException

    if adapter is None or not adapter.run_id:
        return ""
    try:
        info = client.get_run(adapter.run_id).info
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return ""
    return adapter.run_id if info.lifecycle_stage == "active" else ""


def _own_run(client: "MlflowClient", uri: str, name: str) -> str:
    run_id: str = client.create_run(experiment_id(client, uri), run_name=name).info.run_id
    client.set_terminated(run_id)
    return run_id


def _tags(manifest: Manifest) -> dict[str, str]:
    lineage = manifest.lineage
    tags = {
        "slipstream.kind": "bundle",
        BUNDLE: manifest.id,
        "slipstream.base_model": lineage.base_model,
        "slipstream.base_model_sha256": lineage.base_model_sha256,
        "slipstream.target": manifest.engine.target,
    }
    if lineage.adapter is not None:
        tags["slipstream.adapter"] = f"models:/{lineage.adapter.name}/{lineage.adapter.version}"
        tags["slipstream.adapter_run_id"] = lineage.adapter.run_id
    return tags


def _registered(found: ModelVersion, *, is_new: bool) -> RegisteredBundle:
    return RegisteredBundle(found.name, found.version, found.run_id, found.source, is_new)


__all__ = ["BUNDLE", "RegisteredBundle", "register_bundle"]
