"""Indexing with several workers: the coordinator walks, Ray's workers chunk, embed and write, one publish at the end.

Upserts are idempotent, so a share whose worker was lost goes to another one. Whatever else fails ends the run, and
what was published before stays.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream import EnvironmentFault, InputError
from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.distributed.cluster import Workforce, connected, installed_ray
from slipstream.ensemble.retrieval.distributed.worker import Assignment, KnownVectors, ShareReport, WorkerUnfit
from slipstream.ensemble.retrieval.roots import is_there
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


class ServerNeeded(InputError):
    """The embedded index belongs to one process."""


class SharesIncomplete(EnvironmentFault):
    """What is on the server is not what the workers made."""


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
        self._writer = writer
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
            WorkerUnfit: a worker does not see the sources.
            SharesIncomplete: the server does not hold what the workers wrote, and nothing else.
            SlipstreamError: what a worker raised.
        """
        reports: dict[int, ShareReport] = {}
        done, total = 0, sum(file.size for file in files) or 1
        with connected(self._workforce) as cluster:
            parts = shares(files, cluster.workers * _SHARES_PER_WORKER)
            for number, report in cluster.run(self._assignment, self._known, parts):
                _check_seen(report)
                reports[number] = report
                done += sum(file.size for file in parts[number])
                self._progress(done / total, f"{len(reports)} of {len(parts)} shares")
        for number in range(len(parts)):  # in the order of the walk, as one process would have read them
            self._add(reports[number], skipped)
        self._check_whole()

    def _add(self, report: ShareReport, skipped: Skipped) -> None:
        for file, content in zip(report.files, report.contents, strict=True):
            self.sources.add(file, content)
        self.digests |= report.digests
        self.embedded += report.embedded
        self.reused += report.reused
        skipped.update(report.skipped)

    def _check_whole(self) -> None:
        """A worker that died may have written chunks of a file that was another one when the next worker read it."""
        written, held = self.embedded + self.reused, self._writer.count()
        if held != written:
            raise SharesIncomplete(
                f"the server holds {held:,} chunks where the workers made {written:,} of the files as they are now",
                "Run this again; nothing was published.",
            )


def _check_seen(report: ShareReport) -> None:
    """What is gone is gone for all; what is here alone was to be there too.

    Raises:
        WorkerUnfit: the sources are at another place on the worker's machine.
    """
    hidden = next(filter(is_there, report.unseen), None)
    if hidden is not None:
        raise WorkerUnfit(
            f"{report.host} does not see {hidden}",
            "Put the sources at the same path on every machine, on a shared file system for example.",
        )


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
    installed_ray()

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
