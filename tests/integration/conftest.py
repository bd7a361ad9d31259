"""The whole appliance, running: `slipstream serve` with the real Triton on free ports."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from slipstream.ensemble.triton.claims import ports_or_free
from tests.conftest import COLLECTION


def free_port() -> int:
    return ports_or_free([0])[0]


@dataclass(frozen=True)
class Stack:
    """A running appliance."""

    base_url: str
    grpc_address: str
    metrics_url: str
    home: Path
    process: subprocess.Popen[str]
    collection: str = COLLECTION


@pytest.fixture(scope="session")
def stack(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    port, http, grpc, metrics = ports_or_free([0] * 4)
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    env = {
        **os.environ,
        "SLIPSTREAM_HOME": str(home),
        "SLIPSTREAM_PORT": str(port),
        "SLIPSTREAM_TRITON_HTTP_PORT": str(http),
        "SLIPSTREAM_TRITON_GRPC_PORT": str(grpc),
        "SLIPSTREAM_TRITON_METRICS_PORT": str(metrics),
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipstream.cli", "serve"], env=env, stdout=output, stderr=output, text=True
        )
        try:
            base_url = f"http://127.0.0.1:{port}"
            wait_ready(base_url, process, log)
            yield Stack(base_url, f"127.0.0.1:{grpc}", f"http://127.0.0.1:{metrics}/metrics", home, process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def wait_ready(base_url: str, process: subprocess.Popen[str], log: Path, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, f"serve ended with {process.returncode}:\n{log.read_text()}"
        try:
            if httpx.get(f"{base_url}/health/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready after {timeout_s} s:\n{log.read_text()}")
