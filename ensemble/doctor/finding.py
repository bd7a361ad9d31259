"""What a check is given, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from slipstream import SlipstreamError
from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.manifest import FileEntry
from slipstream.ensemble.signing.signature import contents
from slipstream.settings import Settings

if TYPE_CHECKING:
    from slipstream.engines.gpu import GpuSurvey, Nvml

State = Literal["ok", "warning", "problem", "skipped"]

GIB = 1024**3
MIB = 1024**2
READ_BYTES = 512 * MIB
"""What is read whole in well under a second once the disk has it in memory; more is left to `slipstream verify`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ``problem`` keeps a server from answering, ``warning`` makes it slow or will keep it from something
            later, ``skipped`` says in ``evidence`` why there was nothing to look at.
        evidence: what was seen, with numbers.
        remedy: what to do next; empty where nothing has to be done.
    """

    check: str
    state: State
    evidence: str
    remedy: str = ""


class NotExamined(Exception):
    """A check has nothing to look at; its text says why."""


class Subject:
    """The machine under these settings, with the bundle that it is to serve.

    Nothing is looked at before a check asks: a disk that hangs then hangs within the check's deadline.
    """

    def __init__(self, settings: Settings, reference: str | None = None, nvml: "Nvml | None" = None) -> None:
        self.settings = settings
        self._reference = reference
        self._nvml = nvml

    @cached_property
    def bundle(self) -> Bundle | SlipstreamError:
        """The bundle, or what keeps it from being opened."""
        try:
            return find_bundle(self.settings.bundles_dir, self._reference)
        except SlipstreamError as error:
            return error

    @cached_property
    def contents(self) -> list[FileEntry] | None:
        """Every file of the bundle's folder with its digest; None where that is too much to be read here."""
        if sum(file.size_bytes for file in self.opened.manifest.files) > READ_BYTES:
            return None
        return contents(self.opened.path)

    @property
    def opened(self) -> Bundle:
        """
        Raises:
            NotExamined: there is none; the check of the bundle says why.
        """
        if isinstance(self.bundle, SlipstreamError):
            raise NotExamined("there is no bundle to serve")
        return self.bundle

    @cached_property
    def gpus(self) -> "GpuSurvey":
        from slipstream.engines.gpu import probe_gpus

        return probe_gpus(self._nvml)

    @cached_property
    def server(self) -> int | None:
        """The process id of the server that runs on this home; None if none does."""
        from slipstream.ensemble.doctor.ports import holder_of

        return holder_of(self.settings.repository_dir / ".lock")


Check = Callable[[Subject], Finding]
"""Named by what it looks at (``__name__``); may raise `NotExamined`, and any `SlipstreamError` is a problem found."""


def size(size_bytes: float) -> str:
    """``1.5 GiB``, ``64 MiB``."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
