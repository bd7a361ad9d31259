"""What every test shares: a home with a real bundle and a real collection, made once and kept between runs."""

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from slipstream.cli import main

ROOT = Path(__file__).parent.parent
SAMPLE_ADAPTER = ROOT / "build" / "samples" / "code-assistant-lora"
COLLECTION = "code"
# Before torch is loaded: on a busy machine, threads that spin at barriers make a training of 4 s one of 5 minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Whoever starts the tests in the background of a script may have had Ctrl-C ignored, which every command would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def ctrl_c_is_left_alone() -> Iterator[None]:
    """A handler that outlasts its test is in force in all that follow, which then fail only in a whole run."""
    yield
    left = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert left is signal.default_int_handler


def keep_imports_out_of_collections() -> None:
    """Of every full collection, of which each export asks for some: MLflow and torch alone are a million objects."""
    known = 0

    def freeze(phase: str, info: dict[str, int]) -> None:
        nonlocal known
        if phase == "stop" and info["generation"] == 2 and len(sys.modules) > known + 100:
            gc.freeze()
            known = len(sys.modules)

    gc.callbacks.append(freeze)


keep_imports_out_of_collections()


def slipstream(*args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, with its state in ``home``."""
    return subprocess.run(
        [sys.executable, "-m", "slipstream.cli", *args],
        env={**os.environ, "SLIPSTREAM_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def invoke(*args: str, home: Path, **env: str) -> Result:
    """Run the command line in this process, which has imported everything that it needs; see `slipstream`."""
    return CliRunner().invoke(main, args, env={"SLIPSTREAM_HOME": str(home), **env})


@pytest.fixture(autouse=True)
def _own_log_settings() -> Iterator[None]:
    """A test that sets logging up as a server does, which keeps its loggers, decides nothing for those after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def home() -> Path:
    """A home where the sample adapter is promoted, the default bundle built and two packages indexed.

    It stays in ``.cache``: the stage cache and the incremental index make the next run short, as they do for users.
    """
    path = Path(os.environ.get("SLIPSTREAM_TEST_HOME", ROOT / ".cache" / "test-home"))
    path.mkdir(parents=True, exist_ok=True)
    for command in (
        ("register", str(SAMPLE_ADAPTER), "--name", "code-assistant", "--alias", "production"),
        ("build", "default"),
        ("index", "pkg:fastapi", "pkg:starlette", "--collection", COLLECTION),
    ):
        done = slipstream(*command, home=path)
        assert done.returncode == 0, f"slipstream {' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return path


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Path:
    """What `home` has, for a test that serves it: one server runs on a home, and one holds an index."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bundles").symlink_to(home / "bundles")
    shutil.copytree(home / "index", tmp_path / "home" / "index")
    return tmp_path / "home"
