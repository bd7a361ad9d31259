"""What one worker does: chunk and embed its share of the files, and write them to the version under construction.

Whether Ray, a test or anything else drives it makes no difference; it needs the sources at the same place as the
coordinator, and the server. The embedder comes with the task, so a worker's machine needs no bundle.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from slipstream import EnvironmentFault, __version__
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.index import Run
from slipstream.ensemble.retrieval.roots import is_there
from slipstream.ensemble.retrieval.server.writer import ServerShare
from slipstream.ensemble.retrieval.sources import shaping_code
from slipstream.ensemble.retrieval.store import VersionInfo
from slipstream.ensemble.retrieval.stores import open_server
from slipstream.ensemble.retrieval.walk import Skipped, SourceFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class WorkerUnfit(EnvironmentFault):
    """A worker's machine would not make the chunks that the others make."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What every worker of a run is told.

    Attributes:
        url: of the Qdrant server, as the workers reach it; ``api_key`` if it wants one.
        version: under construction there.
        embedder: the files of the bundle's ``embedder/``, by name.
        shaping_code: `sources.shaping_code` of the coordinator.
    """

    url: str
    api_key: str | None
    version: VersionInfo
    embedder: Mapping[str, bytes]
    shaping_code: str


@dataclass(frozen=True, slots=True)
class KnownVectors:
    """Vectors [n, dimension] of the version before by the digests [n] of their chunks, as Ray shares them best."""

    digests: list[str]
    rows: "NDArray[np.float32]"

    @classmethod
    def of(cls, known: "Mapping[str, NDArray[np.float32]]") -> "KnownVectors":
        import numpy as np

        return cls(list(known), np.stack(list(known.values())) if known else np.empty((0, 0), np.float32))


@dataclass(frozen=True, slots=True)
class ShareReport:
    """What became of a share: the files that were chunked with the sha256 of each, in order, and what was left out.

    ``unseen`` is what is not on the worker's machine, whose name is ``host``: folders of files, and the files if none
    of them is there, as where a disk is not mounted.
    """

    files: list[SourceFile]
    contents: list[str]
    digests: set[str]
    embedded: int
    reused: int
    skipped: Skipped
    host: str
    unseen: list[Path]


class ShareIndexer:
    """Indexes one share of files after the other, with ``threads`` embedding at a time.

    It gets ready with its first share, since Ray tells an error of an actor's making as a worker that died.
    """

    def __init__(self, assignment: Assignment, known: KnownVectors, threads: int) -> None:
        self._assignment = assignment
        self._threads = threads
        self._known = dict(zip(known.digests, known.rows, strict=True))

    @cached_property
    def _embedder(self) -> Embedder:
        if self._assignment.shaping_code != shaping_code():
            raise WorkerUnfit(
                f"{socket.gethostname()} runs another chunker or other grammars (Slipstream {__version__})",
                "Install the same Slipstream with the same constraints.txt on every machine.",
            )
        with TemporaryDirectory(prefix="slipstream-embedder-") as folder:
            for name, data in self._assignment.embedder.items():
                (Path(folder) / name).write_bytes(data)
            embedder = Embedder(Path(folder), self._threads)  # reads all of it now
        if embedder.digest != self._assignment.version.embedder_digest:
            raise WorkerUnfit(
                f"the embedder {embedder.digest[:12]} came to {socket.gethostname()}, and the version's is "
                f"{self._assignment.version.embedder_digest[:12]}",
                "Leave the bundle as it is while its embedder is in use; slipstream verify looks it over.",
            )
        return embedder

    @cached_property
    def _part(self) -> ServerShare:
        return open_server(self._assignment.url, self._assignment.api_key).share(self._assignment.version)

    def take(self, files: Sequence[SourceFile]) -> ShareReport:
        """Chunk, embed and write ``files``. To do it again, after a worker was lost, changes nothing.

        Raises:
            WorkerUnfit: chunker, terms, grammars or embedder here are not the coordinator's.
            StoreUnavailable: the server does not answer, or the version is gone.
        """
        skipped = Skipped()
        run = Run(self._part, self._embedder, self._known, lambda share, doing: None)
        run.take(files, skipped)
        return ShareReport(
            files=run.sources.files,
            contents=run.sources.contents,
            digests=run.digests,
            embedded=run.embedded,
            reused=run.reused,
            skipped=skipped,
            host=socket.gethostname(),
            unseen=_unseen(files),
        )


def _unseen(files: Sequence[SourceFile]) -> list[Path]:
    places = [file.absolute for file in files]
    folders = [folder for folder in dict.fromkeys(place.parent for place in places) if not is_there(folder)]
    return folders + ([] if any(map(is_there, places)) else places)
