"""The ports that a server binds, and who has them."""

import os
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

from slipstream.ensemble.doctor.finding import Finding, Subject
from slipstream.ensemble.triton.process import LOOPBACK

_VARIABLES = "SLIPSTREAM_PORT, SLIPSTREAM_TRITON_HTTP_PORT, _GRPC_PORT and _METRICS_PORT"


def ports(subject: Subject) -> Finding:
    """Whether the facade and Triton can bind what the settings say; a running server of this home has them by right."""
    settings = subject.settings
    wanted = {
        "facade": (settings.host, settings.port),
        "Triton's HTTP": (LOOPBACK, settings.triton_http_port),
        "Triton's gRPC": (LOOPBACK, settings.triton_grpc_port),
        "Triton's metrics": (LOOPBACK, settings.triton_metrics_port),
    }
    counted = Counter(port for _, port in wanted.values() if port)
    twice = [port for port, times in counted.items() if times > 1]
    if twice:
        return Finding("ports", "problem", f"{twice[0]} is wanted twice", f"give each its own: {_VARIABLES}")
    held = {what: why for what, (host, port) in wanted.items() if (why := why_not(host, port))}
    said = ", ".join(f"{port or 'any free one'} ({what})" for what, (_, port) in wanted.items())
    if not held:
        return Finding("ports", "ok", f"free: {said}")
    if subject.server is not None and all(holds(subject.server, wanted[what][1]) for what in held):
        return Finding("ports", "ok", f"this home's server (process {subject.server}) has them: {said}")
    told = [f"{wanted[what][1]} ({what}): {why}{_by(wanted[what][1])}" for what, why in held.items()]
    return Finding("ports", "problem", "; ".join(told), f"stop what has them, or set {_VARIABLES} (0: any free one)")


def why_not(host: str, port: int) -> str:
    """Why ``port`` cannot be bound; empty if it can, as for 0, which is any free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _by(port: int) -> str:
    """Who listens on ``port``, as far as this user may know."""
    import psutil

    pids = _listeners(port)
    if not pids:
        return ""
    with suppress(psutil.Error):
        return f" by {psutil.Process(pids[0]).name()} (process {pids[0]})"
    return f" by process {pids[0]}"


def _listeners(port: int) -> list[int]:
    import psutil

    with suppress(psutil.Error, OSError):
        return [
            found.pid
            for found in psutil.net_connections(kind="tcp")
            if found.laddr and found.laddr.port == port and found.status == psutil.CONN_LISTEN and found.pid
        ]
    return []


def holds(server: int, port: int) -> bool:
    """Whether the process ``server`` or one that it started listens on ``port``."""
    import psutil

    with suppress(psutil.Error):
        family = {server, *(child.pid for child in psutil.Process(server).children(recursive=True))}
        return bool(family.intersection(_listeners(port)))
    return False


def holder_of(lock: Path) -> int | None:
    """The process that holds the ``flock`` on ``lock``; asked of the kernel's list, because taking it would disturb.

    Processes of other containers are not in it.
    """
    try:
        found = lock.stat()
        rows = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for row in rows:
        words = row.split()
        if words[1] == "FLOCK" and words[5] == place and words[4].isdigit() and int(words[4]) > 0:
            return int(words[4])
    return None
