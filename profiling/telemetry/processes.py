"""The processes of a server and of a load generator: what each is for, its share of a core, its memory, its threads.

A process is found as a descendant of a root. Roles are Slipstream's own: ``facade``, ``triton``, ``engine``, and the
stubs of Triton's Python backend by their model, ``embedder``, ``retriever``, ``generator``. Any other counts with the
one that started it, so that the workers of another server, or of the load, bear the name of their root.
"""

import ipaddress
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from time import perf_counter
from urllib.parse import urlsplit

import psutil

from slipstream.profiling.telemetry.records import CPU_ENGINE, Process

_STUB = "triton_python_backend_stub"
_REFRESH_S = 2.0  # a walk over every process of the machine; servers start theirs seldom


class Processes:
    """The trees below ``roots``: pid to role. A root that is not there is none; what ends is left out.

    Attributes:
        cpu_s: processor seconds by role, of each process since it started; those that ended since are still in it.
    """

    def __init__(self, roots: Mapping[int, str]) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self._roots: dict[psutil.Process, str] = {}
        for pid, role in roots.items():
            with suppress(psutil.Error):
                self._roots[psutil.Process(pid)] = role
        self._roles: dict[psutil.Process, str] = {}
        self._spent: dict[psutil.Process, tuple[float, float]] = {}
        self._refreshed_s = float("-inf")

    def look(self) -> tuple[Process, ...]:
        """Every process that lives; None is what the system does not tell of another user's."""
        if perf_counter() - self._refreshed_s >= _REFRESH_S:
            self._refresh()
        found = []
        for process, role in list(self._roles.items()):
            try:
                found.append(self._one(process, role))
            except psutil.NoSuchProcess:
                self._forget(process)
            except psutil.AccessDenied:
                found.append(Process(role, process.pid))
        return tuple(found)

    def _refresh(self) -> None:
        roles: dict[psutil.Process, str] = {}
        named = {root.pid: role for root, role in self._roots.items()}
        for root, role in self._roots.items():
            family = {root.pid: role}
            with suppress(psutil.Error):
                for process in (root, *root.children(recursive=True)):  # parents before their children
                    with suppress(psutil.Error):
                        role = named.get(process.pid) or role_of(_command(process), family.get(process.ppid(), role))
                        roles[process] = family[process.pid] = role
        for gone in self._spent.keys() - roles.keys():
            self._forget(gone)
        self._roles, self._refreshed_s = roles, perf_counter()

    def _one(self, process: psutil.Process, role: str) -> Process:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                raise psutil.ZombieProcess(process.pid)
            spent, at = process.cpu_times(), perf_counter()
            resident, threads = process.memory_info().rss, process.num_threads()
        seconds = spent.user + spent.system
        before = self._spent.get(process)
        self._spent[process] = (seconds, at)
        used = seconds - (before[0] if before else 0.0)
        if used < 0:  # another process has got its number since
            raise psutil.NoSuchProcess(process.pid)
        self.cpu_s[role] += used
        share = used / (at - before[1]) if before and at > before[1] else None
        return Process(role, process.pid, share, resident, threads)

    def _forget(self, process: psutil.Process) -> None:
        self._roles.pop(process, None)
        self._spent.pop(process, None)


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.AccessDenied):
        return process.cmdline()
    return []


def role_of(command: Sequence[str], parent: str) -> str:
    """What the process with this command line is for; ``parent`` is the role of the one that started it."""
    program = PurePath(command[0]).name if command else ""
    if program == "tritonserver":
        return "triton"
    if program == _STUB:  # its first argument is <repository>/<model>/<version>/model.py
        return PurePath(command[1]).parts[-3] if len(command) > 1 and len(PurePath(command[1]).parts) > 2 else parent
    if any(part.startswith("slipstream.engines.") and part.endswith(".worker") for part in command):
        return CPU_ENGINE
    return parent


def server_processes(url: str) -> Mapping[int, str]:
    """The process that listens at ``url``, by pid, with its role; none where that is another machine's or user's.

    The facade is ``facade``; another server has its program's name.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        told = socket.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
        addresses = {str(entry[4][0]).split("%")[0] for entry in told}
        if not addresses & _own_addresses() and not any(ipaddress.ip_address(one).is_loopback for one in addresses):
            return {}
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid]
    except (OSError, ValueError, psutil.Error):
        return {}
    found = {}
    for one in listening:
        at = one.laddr
        if at and at.port == port and (at.ip in addresses or ipaddress.ip_address(at.ip).is_unspecified):
            with suppress(psutil.Error):
                process = psutil.Process(one.pid)
                found[process.pid] = _root_role(_command(process), process.name())
    return found


def _own_addresses() -> set[str]:
    return {entry.address.split("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}


def _root_role(command: Sequence[str], name: str) -> str:
    """``python .../bin/slipstream serve`` and ``python -m slipstream.cli serve`` are the facade's."""
    names = {PurePath(part).name for part in command}
    return "facade" if names & {"slipstream", "slipstream.cli"} and "serve" in names else name


__all__ = ["Processes", "role_of", "server_processes"]
