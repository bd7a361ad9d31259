"""What Nsight Compute says when it cannot measure, and what to do about each."""

from slipstream import EnvironmentFault, InputError, SlipstreamError


class CountersForbidden(EnvironmentFault):
    """The driver lets this user read no performance counters."""


class ToolFailed(EnvironmentFault):
    """Nsight Compute is missing or cannot work here."""


class NothingCaptured(InputError):
    """The tool ran and no kernel was measured."""


class QuestionsRefused(InputError):
    """The server under the tool refuses what it is asked, so nothing is decoded."""


class ReportUnreadable(InputError):
    """The report is empty, cut off, or nothing that can be read."""


_PERMISSION = (
    "run it as root (in a container: --cap-add=SYS_ADMIN), or write 'options nvidia "
    "NVreg_RestrictProfilingToAdminUsers=0' into /etc/modprobe.d/nvidia-profiling.conf, update the initramfs and reboot"
)
_NO_KERNEL = (
    "give --range none: an engine that launches its kernels from a process of its own marks them with no range; "
    "and see that the bundle is one for GPUs (slipstream bundles)"
)
_NO_DRIVER = "Nsight Compute finds no CUDA driver"
_ELSEWHERE = "run it on a machine with an NVIDIA GPU and its driver; --dry-run prints the commands for one"
_KNOWN: tuple[tuple[str, type[SlipstreamError], str, str], ...] = (
    (
        "ERR_NVGPUCTRPERM",
        CountersForbidden,
        "the driver lets this user read no GPU performance counters (ERR_NVGPUCTRPERM)",
        _PERMISSION,
    ),
    (
        "driver resource was unavailable",
        ToolFailed,
        "another tool is reading the GPU's counters",
        "stop it first; DCGM: dcgmi profmon --pause",
    ),
    (
        "LibraryNotLoaded",
        ToolFailed,
        "the driver's counter library is not to be had here, as in a sandboxed container (gVisor)",
        "capture on the host or in an ordinary container with the driver's own libraries, and read it with --from",
    ),
    (
        "Failed to find metric",
        ToolFailed,
        "this version of Nsight Compute does not know a metric that was asked for",
        "install Nsight Compute 2022.3 or later",
    ),
    ("failed to connect to the CUDA driver", ToolFailed, _NO_DRIVER, _ELSEWHERE),
    ("Driver could not be loaded", ToolFailed, _NO_DRIVER, _ELSEWHERE),
    ("No kernels were profiled", NothingCaptured, "no kernel ran in the range that was captured", _NO_KERNEL),
)


def explained(said: str) -> SlipstreamError | None:
    """The error that the tool's own words stand for; None if they tell of none that is known."""
    return next((kind(message, remedy) for sign, kind, message, remedy in _KNOWN if sign in said), None)


def nothing_captured() -> NothingCaptured:
    """No kernel was measured, and nobody said why."""
    return NothingCaptured("no kernel ran in the range that was captured", _NO_KERNEL)


__all__ = [
    "CountersForbidden",
    "NothingCaptured",
    "QuestionsRefused",
    "ReportUnreadable",
    "ToolFailed",
    "explained",
    "nothing_captured",
]
