"""The adapter registry: MLflow on SQLite beside its artifacts by default, any MLflow server otherwise.

An adapter is named ``models:/<name>@<alias>`` or ``models:/<name>/<version>``. Importing MLflow takes two seconds, more
than a build with nothing to do may, so on SQLite the few rows behind a reference are read directly; every write, and
every lookup on a server, goes through MLflow.
"""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from slipstream import InputError
from slipstream.build.adapter import Adapter, adapter_digest, read_adapter
from slipstream.build.mlflow_client import (
    RegistryUnavailable,
    database_of,
    experiment_id,
    open_client,
    without_password,
)
from slipstream.build.model_versions import (
    REGISTER,
    ModelVersion,
    NoSuchAlias,
    NoSuchModel,
    NoSuchVersion,
    Wanted,
    ensure_model,
    find_in_sqlite,
    find_tagged_with_mlflow,
    find_with_mlflow,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ARTIFACT = "adapter"
"""Folder of a run's artifacts that holds the adapter."""

_DIGEST_TAG, _BASE_TAG, _BASE_DIGEST_TAG = "slipstream.sha256", "slipstream.base_model", "slipstream.base_model_sha256"
_NAME = re.compile(r"(?!\.)[^/:@]{1,256}")
_ALIAS = re.compile(r"(?!(?i:latest|v\d+)$)[\w-]{1,255}")
_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))")


class ReferenceMalformed(InputError):
    """Not of the form ``models:/<name>@<alias>`` or ``models:/<name>/<version>``."""


class AdapterChanged(InputError):
    """The artifacts are not those that were registered, or are gone."""


class NameInvalid(InputError):
    """A model or an alias cannot be called that."""


@dataclass(frozen=True)
class RegisteredAdapter:
    """A model version whose files are at ``path`` with digest ``sha256``.

    ``base_model`` and ``base_model_sha256`` are empty when the adapter does not say what it was trained on.
    """

    name: str
    version: str
    run_id: str
    path: Path
    sha256: str
    base_model: str
    base_model_sha256: str


class Registry:
    """One MLflow tracking and registry URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._database = database_of(uri)

    def resolve(self, reference: str, cache_dir: Path) -> RegisteredAdapter:
        """Find a version, and have its files here; those of a server are kept below ``cache_dir/adapters``.

        Raises:
            ReferenceMalformed, NoSuchModel, NoSuchAlias, NoSuchVersion: what it says.
            AdapterChanged: the files are gone or are not those that were registered.
            AdapterInvalid, PickleRefused, WeightsDamaged: what is registered is no acceptable adapter.
            RegistryUnavailable: nobody answers at the URI.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise ReferenceMalformed(
                f"{reference!r} names no registered model", "write models:/NAME@ALIAS or models:/NAME/VERSION"
            )
        found = self._find(Wanted(match["name"], match["alias"], match["version"], without_password(self.uri)))
        path = self._files(found, cache_dir / "adapters")
        adapter = read_adapter(path)
        registered = found.tags.get(_DIGEST_TAG, adapter.sha256)
        if adapter.sha256 != registered:
            raise AdapterChanged(
                f"{path} has digest {adapter.sha256[:12]}…, "
                f"version {found.version} was registered with {registered[:12]}…",
                "register the adapter again: slipstream register PATH",
            )
        return _registered(found, path, adapter)

    def register(
        self,
        adapter_dir: Path,
        name: str,
        alias: str | None,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        curves: Mapping[str, list[float]] | None = None,
    ) -> RegisteredAdapter:
        """Make ``adapter_dir`` a version of ``name`` and point ``alias`` at it; the same bytes are registered once.

        Args:
            params, metrics, curves: logged to the run that carries the adapter; a curve is a metric by step.

        Raises:
            NameInvalid: ``name`` or ``alias`` is none; nothing is written.
            AdapterInvalid, AdapterRankUnfit, PickleRefused, WeightsDamaged: it is no acceptable adapter.
            RegistryUnavailable: nobody answers at the URI.
        """
        check_names(name, alias)
        adapter = read_adapter(adapter_dir)
        with open_client(self.uri) as client:
            found = find_tagged_with_mlflow(client, name, _DIGEST_TAG, adapter.sha256)
            if found is None:
                run_id = self._log_run(client, name, adapter_dir, params or {}, metrics or {}, curves or {})
                found = self._create_version(client, name, run_id, adapter)
            if alias is not None:
                client.set_registered_model_alias(name, alias, found.version)
        return _registered(found, adapter_dir, adapter)

    def _log_run(
        self,
        client: "MlflowClient",
        name: str,
        adapter_dir: Path,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        curves: Mapping[str, list[float]],
    ) -> str:
        """A finished run that holds the adapter's files, in our experiment."""
        run_id: str = client.create_run(experiment_id(client, self.uri), run_name=name).info.run_id
        for key, value in params.items():
            client.log_param(run_id, key, value)
        for key, number in metrics.items():
            client.log_metric(run_id, key, number)
        for key, values in curves.items():
            for step, number in enumerate(values):
                client.log_metric(run_id, key, number, step=step)
        client.log_artifacts(run_id, str(adapter_dir), ARTIFACT)
        client.set_terminated(run_id)
        return run_id

    def _create_version(self, client: "MlflowClient", name: str, run_id: str, adapter: Adapter) -> ModelVersion:
        tags = {_DIGEST_TAG: adapter.sha256, _BASE_TAG: adapter.base_model}
        if adapter.provenance:
            tags[_BASE_DIGEST_TAG] = adapter.provenance.base_model_sha256
        ensure_model(client, name)
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        return ModelVersion.of(client.create_model_version(name, source, run_id, tags=tags))

    def _find(self, wanted: Wanted) -> ModelVersion:
        if self._database is not None:
            if not self._database.is_file():
                raise wanted.no_model()
            try:
                return find_in_sqlite(self._database, wanted)
            except sqlite3.Error:
                pass  # another schema, a lock: MLflow knows its own database best
        with open_client(self.uri) as client:
            return find_with_mlflow(client, wanted)

    def _files(self, found: ModelVersion, kept: Path) -> Path:
        """The version's folder: in place when it is on this disk, else downloaded once (aside, then renamed)."""
        parsed = urlparse(found.source)
        if parsed.scheme in {"", "file"}:
            local = Path(unquote(parsed.path))
            if not local.is_dir():
                raise AdapterChanged(f"the artifacts of {found.name} {found.version} are gone from {local}", REGISTER)
            return local
        home = kept / f"{found.name}-{found.version}-{found.run_id}"
        digest = found.tags.get(_DIGEST_TAG)
        if home.is_dir() and (digest is None or adapter_digest(home) == digest):
            return home
        kept.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=kept, prefix=".aside-") as aside, open_client(self.uri):
            from mlflow.artifacts import download_artifacts

            Path(download_artifacts(found.source, dst_path=aside, tracking_uri=self.uri)).rename(home)
        return home


def check_names(name: str, alias: str | None) -> None:
    """Refuse what MLflow would refuse after the upload, and what no reference could name.

    Raises:
        NameInvalid: saying which one.
    """
    if not _NAME.fullmatch(name) or not name.isprintable() or name != name.strip():
        raise NameInvalid(
            f"a model cannot be called {name[:80]!r}", "choose a --name of at most 256 characters without / : @"
        )
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise NameInvalid(
            f"an alias cannot be called {alias[:80]!r}",
            "choose an --alias of letters, digits, - and _; 'latest' and v1, v2, ... are MLflow's own",
        )


def _registered(found: ModelVersion, path: Path, adapter: Adapter) -> RegisteredAdapter:
    base_sha256 = adapter.provenance.base_model_sha256 if adapter.provenance else ""
    return RegisteredAdapter(
        found.name, found.version, found.run_id, path, adapter.sha256, adapter.base_model, base_sha256
    )


__all__ = [
    "AdapterChanged", "NameInvalid", "NoSuchAlias", "NoSuchModel", "NoSuchVersion", "ReferenceMalformed",
    "RegisteredAdapter", "Registry", "RegistryUnavailable", "check_names",
]  # fmt: skip
