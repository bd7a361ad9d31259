"""Ray: a cluster of workers, on this machine or on many, that take shares of the files."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream import EnvironmentFault, SlipstreamError
from slipstream.ensemble.retrieval.distributed.worker import Assignment, KnownVectors, ShareIndexer, ShareReport
from slipstream.ensemble.retrieval.walk import SourceFile

# Of a share whose worker died. One more machine may go away; then it is the share that kills them.
_RETRIES = 2


class RayMissing(EnvironmentFault):
    """Ray is not installed."""


class ClusterUnavailable(EnvironmentFault):
    """There is no Ray cluster at the address, or it has no room."""


class WorkerLost(EnvironmentFault):
    """Workers died again and again on the same share of the files."""


@dataclass(frozen=True, slots=True)
class Workforce:
    """How many workers, and where: processes on this machine, or in the Ray cluster at ``address``.

    One for each machine of the cluster when ``workers`` is None; they share its cores evenly.
    """

    workers: int | None = None
    address: str | None = None


def installed_ray() -> Any:
    """The module ``ray``.

    Raises:
        RayMissing: the extra is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this appliance
    if _has_token():
        # A cluster that `ray start` or `ray.init` makes wants its token. Ray sends it to a cluster that it finds by
        # itself, and not to one whose address it is given, unless it is told to before it is imported.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise RayMissing(
            "indexing with several workers needs Ray, which is not installed", "pip install 'slipstream[distributed]'"
        ) from error
    return ray


def _has_token() -> bool:
    """Whether Ray would find a token to show: in the environment, in a file that it names, or in the usual one."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(named or Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def connected(workforce: Workforce) -> "Iterator[Cluster]":
    """A cluster of this machine for as long as it is needed, or the one at the address.

    Raises:
        RayMissing: the extra is not installed.
        ClusterUnavailable: it cannot be started or reached, or has no room.
    """
    ray = installed_ray()
    _check_answers(workforce.address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if workforce.address is None:
            cores = max(workforce.workers or 1, len(os.sched_getaffinity(0)))
            ray.init("local", num_cpus=cores, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(workforce.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unavailable(workforce.address or "this machine", _cause(error)) from error
    try:
        yield Cluster(ray, workforce.workers)
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Whether somebody listens at ``address``: Ray itself waits for minutes, and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise _unavailable(str(address), error) from error


def _cause(error: BaseException) -> BaseException:
    """What Ray's own error came from: that one says only that there is no connection."""
    cause = error.__cause__ or error.__context__
    return _cause(cause) if cause is not None else error


def _unavailable(where: str, error: BaseException) -> ClusterUnavailable:
    told = " ".join(str(error).split())[:200]
    if "token" in told.lower():
        return ClusterUnavailable(
            f"the Ray cluster on {where} does not let this process in: {told}",
            "Copy ~/.ray/auth_token from its head machine, or set RAY_AUTH_TOKEN to what is in it.",
        )
    return ClusterUnavailable(
        f"no Ray cluster on {where}: {told}",
        "Start one with `ray start --head`, or leave --ray out to use this machine.",
    )


class Cluster:
    """Workers in a Ray cluster that this process is connected to."""

    def __init__(self, ray: Any, workers: int | None) -> None:
        self._ray = ray
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        self.workers = workers or sum(cores > 0 for cores in machines) or 1
        # A worker has its cores on one machine: as many as let all workers find room.
        self._threads = next(
            (
                threads
                for threads in range(max(machines, default=0), 0, -1)
                if sum(cores // threads for cores in machines) >= self.workers
            ),
            0,
        )
        if not self._threads:
            raise ClusterUnavailable(
                f"the cluster has {sum(machines)} cores for {self.workers} workers",
                "Add machines to it, or ask for fewer workers.",
            )

    def run(
        self, assignment: Assignment, known: KnownVectors, parts: Sequence[Sequence[SourceFile]]
    ) -> Iterator[tuple[int, ShareReport]]:
        """The number of each part with its report, as they are done."""
        ray = self._ray
        options = {"num_cpus": self._threads, "max_restarts": -1, "max_task_retries": _RETRIES}
        start = ray.remote(**options)(ShareIndexer).remote
        told, vectors = ray.put(assignment), ray.put(known)
        idle = [start(told, vectors, self._threads) for _ in range(min(self.workers, len(parts)))]
        waiting = iter(enumerate(parts))
        running: dict[Any, tuple[int, Any]] = {}
        while True:
            while idle and (task := next(waiting, None)) is not None:
                worker = idle.pop()
                running[worker.take.remote(task[1])] = task[0], worker
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            number, worker = running.pop(done[0])
            idle.append(worker)
            yield number, self._result(done[0])

    def _result(self, done: Any) -> ShareReport:
        try:
            report: ShareReport = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SlipstreamError):
                raise error.cause from error
            raise
        except self._ray.exceptions.RayActorError as error:
            raise WorkerLost(
                f"workers died {_RETRIES + 1} times on the same files: {' '.join(str(error).split())[:300]}",
                "Look for the reason in Ray's log (out of memory?), then run this again; nothing was published.",
            ) from error
        return report
