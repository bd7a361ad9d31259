"""Model versions of MLflow, looked up in the tables of its SQLite database or with its client."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

REGISTER = "slipstream register PATH"


class NoSuchModel(InputError):
    """Nothing is registered under that name."""


class NoSuchAlias(InputError):
    """The model has no such alias."""


class NoSuchVersion(InputError):
    """The model has no such version."""


@dataclass(frozen=True)
class ModelVersion:
    """A row of the registry; ``source`` is the URI of its artifacts."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, found: Any) -> "ModelVersion":
        """From MLflow's entity of the same name."""
        return cls(found.name, str(found.version), found.run_id or "", found.source, dict(found.tags))


@dataclass(frozen=True)
class Wanted:
    """What a reference asks for, by ``alias`` or else by ``version``, at ``place``."""

    name: str
    alias: str | None
    version: str | None
    place: str

    def no_model(self) -> NoSuchModel:
        return NoSuchModel(f"no model {self.name!r} is registered at {self.place}", f"{REGISTER} --name {self.name}")

    def no_version(self) -> NoSuchAlias | NoSuchVersion:
        if self.alias:
            remedy = f"promote a version: {REGISTER} --name {self.name} --alias {self.alias}"
            return NoSuchAlias(f"model {self.name!r} has no alias {self.alias!r}", remedy)
        return NoSuchVersion(
            f"model {self.name!r} has no version {self.version}", f"use models:/{self.name}@production"
        )


def find_in_sqlite(database: Path, wanted: Wanted) -> ModelVersion:
    """What MLflow's client would find, from the tables of its registry (mlflow 3, ``dbmodels/models.py``).

    Raises:
        NoSuchModel, NoSuchAlias, NoSuchVersion: it is not there.
        sqlite3.Error: the tables are others, or locked.
    """
    name, version = wanted.name, wanted.version
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        if not connection.execute("SELECT 1 FROM registered_models WHERE name = ?", (name,)).fetchone():
            raise wanted.no_model()
        if wanted.alias is not None:
            of_alias = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
            row = connection.execute(of_alias, (name, wanted.alias)).fetchone()
            if row is None:
                raise wanted.no_version()
            version = str(row[0])
        of_version = (
            "SELECT version, run_id, COALESCE(storage_location, source) FROM model_versions "
            "WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'"
        )
        row = connection.execute(of_version, (name, version)).fetchone()
        if row is None:
            raise wanted.no_version()
        of_tags = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
        tags = dict(connection.execute(of_tags, (name, row[0])).fetchall())
    return ModelVersion(name, str(row[0]), row[1] or "", row[2], tags)  # 7, where it was asked for as 07


def find_tagged_in_sqlite(database: Path, name: str, tag: str, value: str) -> ModelVersion | None:
    """The first version of ``name`` whose ``tag`` is ``value``.

    Raises:
        sqlite3.Error: there is no such database, the tables are others, or locked.
    """
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
        of_tag = (
            "SELECT versions.version, versions.run_id, COALESCE(versions.storage_location, versions.source) "
            "FROM model_versions AS versions JOIN model_version_tags AS tags "
            "ON tags.name = versions.name AND tags.version = versions.version "
            "WHERE versions.name = ? AND tags.key = ? AND tags.value = ? "
            "AND versions.current_stage != 'Deleted_Internal' ORDER BY versions.version"
        )
        row = connection.execute(of_tag, (name, tag, value)).fetchone()
    return row and ModelVersion(name, str(row[0]), row[1] or "", row[2], {tag: value})


def find_tagged_with_mlflow(client: "MlflowClient", name: str, tag: str, value: str) -> ModelVersion | None:
    """The same through MLflow; ``tag`` and ``value`` are our own words and hold no quotes."""
    escaped = name.replace("'", "''")
    versions = client.search_model_versions(f"name='{escaped}' and tags.`{tag}`='{value}'")
    return min(map(ModelVersion.of, versions), key=lambda found: int(found.version), default=None)


def ensure_model(client: "MlflowClient", name: str) -> None:
    """Have a registered model called ``name``."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def find_with_mlflow(client: "MlflowClient", wanted: Wanted) -> ModelVersion:
    """The same through MLflow.

    Raises:
        NoSuchModel, NoSuchAlias, NoSuchVersion: it is not there.
        MlflowException: whatever else the client meets.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(wanted.name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise wanted.no_model() from error
        raise
    try:
        if wanted.alias:
            return ModelVersion.of(client.get_model_version_by_alias(wanted.name, wanted.alias))
        return ModelVersion.of(client.get_model_version(wanted.name, str(wanted.version)))
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise wanted.no_version() from error
