"""Registries for the tests of promotion: MLflow on SQLite, and a real MLflow server on HTTP."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from slipstream.build.mlflow_client import open_client
from slipstream.build.registry import Registry
from tests.build.promotion.registries import register


@pytest.fixture(scope="session")
def four_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose registry has four versions of one adapter; making its tables takes MLflow seconds."""
    home = tmp_path_factory.mktemp("four-versions")
    register(Registry(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"), home / "lora", 4)
    return home


@pytest.fixture
def registry(four_versions: Path, tmp_path: Path) -> Registry:
    """A copy of it of one's own; the adapters' files are shared."""
    shutil.copytree(four_versions / "mlflow", tmp_path / "mlflow", ignore=shutil.ignore_patterns("artifacts"))
    return Registry(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server that keeps artifacts itself, as a team's does."""
    home = tmp_path_factory.mktemp("server")
    uri = f"sqlite:///{home / 'mlflow.db'}"
    with open_client(uri):  # makes the tables
        pass
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", uri, "--artifacts-destination", str(home / "artifacts")]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *stores],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = monotonic() + 120
        while True:
            assert server.poll() is None, (home / "log").read_text()
            assert monotonic() < deadline, (home / "log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            except httpx.TransportError:
                sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its workers take long over an end, and nothing of it is kept
        server.wait()
