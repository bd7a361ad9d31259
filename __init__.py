"""Slipstream: an inference appliance for a self-hosted code-intelligence assistant.

Every error that Slipstream raises on purpose descends from one root, so that a caller (the command line, the facade,
a test) can tell "the user has to do something" from a defect::

    SlipstreamError
    ├── InputError          the caller's input is wrong; exit code 2, HTTP 4xx
    │   └── ...             one subclass per room, beside the code that raises it
    ├── EnvironmentFault    the machine lacks something (disk, port, part, service); exit code 2, HTTP 503
    └── GateError           the work was done and the answer is no (verify, tolerance); exit code 1

Each carries ``remedy``: one line that says what to do next.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("slipstream")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


class SlipstreamError(Exception):
    """An error with a remedy.

    Args:
        message: what is wrong, in the caller's terms.
        remedy: what to do next, one line, imperative.
    """

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InputError(SlipstreamError):
    """What the caller asked for cannot be done as asked."""


class EnvironmentFault(SlipstreamError):
    """The machine lacks what the work needs: disk, a free port, a package, a service that answers."""


class GateError(SlipstreamError):
    """The work ran and its result was refused."""

    exit_code = 1


__all__ = ["EnvironmentFault", "GateError", "InputError", "SlipstreamError", "__version__"]
