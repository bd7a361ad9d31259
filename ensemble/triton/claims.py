"""What a server claims of its machine before it starts: the home, and Triton's ports."""

import fcntl
import socket
from pathlib import Path
from typing import TextIO

from slipstream import EnvironmentFault
from slipstream.ensemble.triton.process import LOOPBACK


class HomeInUse(EnvironmentFault):
    """Another server runs on the same home."""


class HomeUnwritable(EnvironmentFault):
    """A server cannot keep its files in the home: no permission, no space, or something else is in the way."""


class PortTaken(EnvironmentFault):
    """Another process listens where Triton should."""


def hold(path: Path) -> TextIO:
    """Hold the lock of ``path`` until it is closed or this process ends.

    Raises:
        HomeInUse: another process holds it.
        OSError: it cannot be opened or locked.
    """
    file = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise HomeInUse(
            f"another server runs on {path.parent.parent}", "stop it, or serve another home: SLIPSTREAM_HOME=..."
        ) from None
    return file


def port_or_free(wanted: int) -> int:
    """``wanted``, or a free one for 0."""
    if wanted:
        return wanted
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int) -> None:
    """Raises:
    PortTaken: another process listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(
                f"Triton's port {port} on {LOOPBACK} is taken ({error.strerror})",
                "stop what uses it, or set SLIPSTREAM_TRITON_HTTP_PORT, _GRPC_PORT and _METRICS_PORT (0: any free one)",
            ) from error
