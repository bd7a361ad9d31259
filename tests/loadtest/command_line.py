"""Slipstream's command line in a process of its own, as its user runs it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import invoke
from tests.loadtest.conftest import ROOT


def start(command: str, home: Path, *options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "slipstream.cli", command, *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "SLIPSTREAM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(command: str, home: Path, *options: object) -> tuple[int, str, str]:
    with start(command, home, *options) as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def refused(command: str, home: Path, *options: object) -> str:
    """What is said of options that cannot be, in this process; nothing is written."""
    done = invoke(command, *map(str, options), home=home)
    assert done.exit_code == 2, done.output
    assert not (home / "reports").exists()
    return done.stderr


def folder_in(home: Path) -> Path:
    """The one folder of a run below ``reports/``."""
    (folder,) = (home / "reports").iterdir()
    return folder
