"""MLflow's client: opened so that it phones nobody else, and with whatever it throws explained."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from slipstream import EnvironmentFault

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "slipstream"

_THEIRS = {"mlflow", "sqlalchemy", "alembic"}
"""Libraries whose own exceptions mean that the registry failed."""


class RegistryUnavailable(EnvironmentFault):
    """The MLflow server or database does not answer."""


def database_of(uri: str) -> Path | None:
    """The file behind a SQLite URI; None for everything else."""
    return Path(unquote(urlparse(uri).path)[1:]) if uri.startswith("sqlite:///") else None


def without_password(text: str) -> str:
    """``text`` without what stands before the host in its URIs; a password may hold any character but white space."""
    return re.sub(r"://\S*@", "://", text)


@contextmanager
def open_client(uri: str) -> "Iterator[MlflowClient]":
    """A client of ``uri``; what MLflow throws while it is used becomes ours to explain.

    Raises:
        RegistryUnavailable: nobody answers, no driver, a URI that is none, or a database that is damaged.
    """
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    # Standard output is the command's; and MLflow would print the server's address there with the password in it.
    os.environ.update(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    # MLflow's defaults keep a caller waiting for minutes before they admit that nobody is there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow.tracking import MlflowClient

    for chatty in ("mlflow.store", "mlflow.tracking", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with _sole_opener(database_of(uri)) as database:
            client = MlflowClient(uri, registry_uri=uri)
            if database is not None:
                client.search_registered_models(max_results=1)  # the registry opens it when it is first asked
        yield client
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if library not in _THEIRS and not isinstance(error, OSError | ValueError | ImportError):
            raise
        raise _unavailable(uri, error) from error


def experiment_id(client: "MlflowClient", uri: str) -> str:
    """Our experiment, made if it is not there yet.

    On SQLite MLflow would put artifacts into ./mlruns of whoever runs it; they belong beside the database.
    """
    from mlflow.exceptions import MlflowException

    database = database_of(uri)
    beside = (database.parent / "artifacts").resolve().as_uri() if database else None
    if (found := client.get_experiment_by_name(EXPERIMENT)) is None:
        try:
            return str(client.create_experiment(EXPERIMENT, beside))
        except MlflowException as error:
            found = client.get_experiment_by_name(EXPERIMENT)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:  # else somebody was faster
                raise
    return str(found.experiment_id)


@contextmanager
def _sole_opener(database: Path | None) -> Iterator[Path | None]:
    """Be the only one to open ``database``: two that make its tables at once fail in each other's migrations."""
    if database is None:
        yield None
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(database.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield database
    finally:
        os.close(folder)


def _unavailable(uri: str, error: Exception) -> RegistryUnavailable:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    database = database_of(uri)
    if isinstance(error, ImportError):
        remedy = "install the driver that MLFLOW_TRACKING_URI names, or name a server: http://HOST:PORT"
    elif database is not None:
        remedy = f"see that {database} is MLflow's and may be written to; moved away, an empty registry takes its place"
    else:
        remedy = "check MLFLOW_TRACKING_URI and that the server answers"
    return RegistryUnavailable(f"MLflow at {without_password(uri)} failed: {without_password(lines[0])}", remedy)


__all__ = ["EXPERIMENT", "RegistryUnavailable", "database_of", "experiment_id", "open_client", "without_password"]
