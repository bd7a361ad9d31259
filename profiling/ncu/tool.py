"""The program ``ncu``: where it is, what it knows, and reading its reports."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slipstream import EnvironmentFault
from slipstream.profiling.ncu.faults import ReportUnreadable, ToolFailed, explained

_PLACES = ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu", "/usr/lib/nsight-compute/ncu")
_METRIC = re.compile(r"^(sm__ops_path_tensor_src_\w+)\s", re.MULTILINE)


class NoGpu(EnvironmentFault):
    """There is no NVIDIA GPU to measure kernels on."""


def find_ncu() -> str:
    """The path of ``ncu``: on PATH, or where NVIDIA's and Debian's packages put it, the newest first.

    Raises:
        ToolFailed: it is not installed.
    """
    on_path = shutil.which("ncu")
    if on_path:
        return on_path
    for place in _PLACES:
        found = sorted(Path("/").glob(place.lstrip("/")), reverse=True)
        if found:
            return str(found[0])
    raise ToolFailed(
        "Nsight Compute (ncu) is not installed",
        "apt-get install nsight-compute (Debian: non-free; NVIDIA's CUDA repository: nsight-compute-VERSION); "
        "--dry-run prints the commands for another machine, --from reads a report made there",
    )


def require_gpu() -> None:
    """See that a GPU is here, before a server is started for nothing.

    Raises:
        NoGpu: the driver finds none, or there is no driver.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise NoGpu(f"there is no NVIDIA GPU here: {error}", _ELSEWHERE) from error
    if not count:
        raise NoGpu("there is no NVIDIA GPU here", _ELSEWHERE)


_ELSEWHERE = "run it on a machine with one; --dry-run prints the commands, --from reads a report made there"


def tensor_metrics(ncu: str) -> tuple[str, ...]:
    """What counts the operations of tensor cores, by the names that this version has for this card.

    A name that it does not know ends a whole capture, so it is asked first.

    Raises:
        CountersForbidden, ToolFailed: it cannot say.
    """
    names = sorted(set(_METRIC.findall(_said([ncu, "--query-metrics"]))))
    return tuple(
        metric for name in names if "_sparsity_" not in name for metric in (f"{name}.sum", f"{name}.sum.peak_sustained")
    )


def exported(ncu: str, report: Path) -> str:
    """The raw page of a report, as CSV.

    Raises:
        ReportUnreadable: the file is no report, or a newer one than this ``ncu`` reads.
    """
    try:
        return _said([ncu, "--import", str(report), "--csv", "--page", "raw"])
    except ToolFailed as error:
        raise ReportUnreadable(error.message, "read it with the version of Nsight Compute that made it") from error


def _said(command: Sequence[str]) -> str:
    """Standard output; numbers in it are written as in the C locale."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError as error:
        raise ToolFailed(f"{command[0]} cannot be run: {error.strerror}", "install Nsight Compute anew") from error
    if done.returncode:
        words = (done.stdout + done.stderr).strip()
        raise explained(words) or ToolFailed(
            f"{' '.join(command[:2])}: {words[-300:] or 'it failed'}", "see ncu --help"
        )
    return done.stdout


__all__ = ["NoGpu", "exported", "find_ncu", "require_gpu", "tensor_metrics"]
