"""Indexing with several workers: the coordinator walks, Ray's workers chunk, embed and write, one publish at the end.

Upserts are idempotent, so a share whose worker was lost goes to another one. Whatever else fails ends the run, and
what was published before stays.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import EnvironmentFault, InputError, SlipstreamError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.distributed.worker import Assignment, KnownVectors, ShareIndexer, ShareReport
from slipstream.ensemble.retrieval.server.writer import ServerWriter
from slipstream.ensemble.retrieval.sources import SourceDigest, shaping_code
from slipstream.ensemble.retrieval.store import Writer
from slipstream.ensemble.retrieval.walk import Skipped, SourceFile
from slipstream.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Small enough that the last share keeps nobody waiting for long, large enough that handing it out costs nothing.
_SHARES_PER_WORKER = 8
# Of a share whose worker died. One more machine may go away; then it is the share that kills them.
_RETRIES = 2


class RayMissing(EnvironmentFault):
    """Ray is not installed."""


class ClusterUnavailable(EnvironmentFault):
    """There is no Ray cluster at the address, or it has no room."""


class WorkerLost(EnvironmentFault):
    """Workers died again and again on the same share of the files."""


class ServerNeeded(InputError):
    """The embedded index belongs to one process."""


@dataclass(frozen=True, slots=True)
class Workforce:
    """How many workers, and where: processes on this machine, or in the Ray cluster at ``address``.

    One for each machine of the cluster when ``workers`` is None; they share its cores evenly.
    """

    workers: int | None = None
    address: str | None = None


class DistributedRun:
    """`Indexing` by the workers of a `Workforce`; see there for the attributes."""

    def __init__(
        self,
        workforce: Workforce,
        settings: Settings,
        embedder_dir: Path,
        writer: ServerWriter,
        known: "Mapping[str, NDArray[np.float32]]",
        progress: Progress,
    ) -> None:
        key = settings.qdrant_api_key
        self._assignment = Assignment(
            url=settings.qdrant_url or "",
            api_key=key.get_secret_value() if key else None,
            version=writer.info,
            embedder={path.name: path.read_bytes() for path in sorted(embedder_dir.iterdir())},
            shaping_code=shaping_code(),
        )
        self._workforce = workforce
        self._known = KnownVectors.of(known)
        self._progress = progress
        self.sources = SourceDigest()
        self.digests: set[str] = set()
        self.embedded = 0
        self.reused = 0

    def take(self, files: Sequence[SourceFile], skipped: Skipped) -> None:
        """
        Raises:
            RayMissing, ClusterUnavailable: before anything was handed out.
            WorkerLost: a share was tried three times.
            SlipstreamError: what a worker raised.
        """
        reports: dict[int, ShareReport] = {}
        done, total = 0, sum(file.size for file in files) or 1
        with _cluster(self._workforce) as cluster:
            parts = shares(files, cluster.workers * _SHARES_PER_WORKER)
            for number, report in cluster.run(self._assignment, self._known, parts):
                reports[number] = report
                done += sum(file.size for file in parts[number])
                self._progress(done / total, f"{len(reports)} of {len(parts)} shares")
        for number in range(len(parts)):  # in the order of the walk, as one process would have read them
            self._add(reports[number], skipped)

    def _add(self, report: ShareReport, skipped: Skipped) -> None:
        for file, content in zip(report.files, report.contents, strict=True):
            self.sources.add(file, content)
        self.digests |= report.digests
        self.embedded += report.embedded
        self.reused += report.reused
        skipped.update(report.skipped)


def distributed(
    workforce: Workforce, settings: Settings, embedder_dir: Path
) -> "Callable[[Writer, Embedder, Mapping[str, NDArray[np.float32]], Progress], DistributedRun]":
    """What `build_index` takes as ``indexing``, so that ``workforce`` does it.

    Raises:
        ServerNeeded: the settings name no Qdrant server.
        RayMissing: the extra is not installed.
    """
    if settings.qdrant_url is None:
        raise ServerNeeded(
            "several workers cannot write the embedded index: its files belong to one process",
            "start a Qdrant server that all of them reach, and set QDRANT_URL to its address",
        )
    _ray()

    def indexing(
        writer: Writer, embedder: Embedder, known: "Mapping[str, NDArray[np.float32]]", progress: Progress
    ) -> DistributedRun:
        if not isinstance(writer, ServerWriter):
            raise TypeError(f"{type(writer).__name__} takes no shares")
        return DistributedRun(workforce, settings, embedder_dir, writer, known, progress)

    return indexing


def shares(files: Sequence[SourceFile], count: int) -> list[list[SourceFile]]:
    """At most ``count`` parts of ``files``, in order, none empty, about as many bytes in each."""
    size = sum(file.size + 1 for file in files) / count
    parts: list[list[SourceFile]] = []
    filled = 0.0
    for file in files:
        if not parts or (filled >= size * len(parts) and len(parts) < count):
            parts.append([])
        parts[-1].append(file)
        filled += file.size + 1
    return parts


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this appliance
    try:
        import ray
    except ImportError as error:
        raise RayMissing(
            "indexing with several workers needs Ray, which is not installed", "pip install 'slipstream[distributed]'"
        ) from error
    return ray


@contextmanager
def _cluster(workforce: Workforce) -> "Iterator[_Cluster]":
    """A cluster of this machine for as long as it is needed, or the one at the address."""
    ray = _ray()
    _check_answers(workforce.address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if workforce.address is None:
            cores = max(workforce.workers or 1, len(os.sched_getaffinity(0)))
            ray.init("local", num_cpus=cores, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(workforce.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unavailable(workforce.address or "this machine", error) from error
    try:
        yield _Cluster(ray, workforce.workers)
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


def _unavailable(where: str, error: Exception) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"no Ray cluster on {where}: {' '.join(str(error).split())[:200]}",
        "Start one with `ray start --head`, or leave --ray out to use this machine.",
    )


class _Cluster:
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
