"""What a server claims of its machine before it starts: the home, and Triton's ports."""

import fcntl
import socket
from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from slipstream import EnvironmentFault
from slipstream.ensemble.triton.process import LOOPBACK

_VARIABLES = "SLIPSTREAM_TRITON_HTTP_PORT, _GRPC_PORT and _METRICS_PORT"


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


def ports_or_free(wanted: Sequence[int]) -> list[int]:
    """``wanted``, each 0 in it replaced by a free port; no two of them are the same.

    All free ones are held until the last is found: asked for one after the other, the kernel now and then gives the
    same one twice, and Triton does not start with it.
    """
    held = ExitStack()
    with held:
        return [port or _hold_a_free_port(held, wanted) for port in wanted]


def _hold_a_free_port(held: ExitStack, besides: Container[int]) -> int:
    while True:
        probe = held.enter_context(socket.socket())
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        if port not in besides:
            return port


def require_free(ports: Sequence[int]) -> None:
    """Raises:
    PortTaken: another process listens on one of them, or two are the same.
    """
    for port in ports:
        if ports.count(port) > 1:
            raise PortTaken(f"Triton's port {port} is wanted twice", f"give each its own: {_VARIABLES}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise PortTaken(
                    f"Triton's port {port} on {LOOPBACK} is taken ({error.strerror})",
                    f"stop what uses it, or set {_VARIABLES} (0: any free one)",
                ) from error
