"""Nsight Systems on this machine: where it is, which version, and its commands."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import slipstream
from slipstream import EnvironmentFault

UNPACKED = Path(slipstream.__file__).parent / ".cache" / "nsys" / "usr" / "bin" / "nsys"
"""Where ``make nsys`` puts it in a checkout."""

_LAST_CHARACTERS = 800
_INSTALL = "make nsys (a checkout on Debian), or install NVIDIA's nsight-systems-cli so that nsys is on PATH"


class NsysMissing(EnvironmentFault):
    """There is no Nsight Systems, or none that runs."""


class NsysFailed(EnvironmentFault):
    """A command of Nsight Systems failed; its last words are in the message."""


@dataclass(frozen=True)
class Nsys:
    """An installation.

    Attributes:
        importer: turns a ``.qdstrm`` into a report. Debian's package keeps it where its nsys does not look; None where
            it is not found, because newer versions import by themselves.
    """

    path: Path
    importer: Path | None
    version: str

    def run(self, *arguments: str, within_s: float = 600) -> str:
        """Run ``nsys ARGUMENTS`` to its end, out of reach of a Ctrl-C that is typed here; what it printed.

        Raises:
            NsysFailed: it did not end well.
            KeyboardInterrupt: Ctrl-C was typed meanwhile, and it has ended.
        """
        return _run([str(self.path), *arguments], within_s)

    def import_capture(self, capture: Path, report: Path) -> None:
        """Make a report of a raw capture (``.qdstrm``).

        Raises:
            NsysFailed: there is nothing that can, or it failed.
        """
        if self.importer is None:
            raise NsysFailed(
                f"{self.path} left {capture.name} and has no QdstrmImporter beside it",
                f"import {capture} where Nsight Systems is complete, then: slipstream profile nsys --from IT.nsys-rep",
            )
        _run([str(self.importer), "-i", str(capture), "-o", str(report)], within_s=600)
        if not report.is_file():
            raise NsysFailed(f"{self.importer} made no report of {capture}", "import it by hand")

    def export(self, report: Path, database: Path) -> None:
        """Make an SQLite database of a report.

        Raises:
            NsysFailed: it did not.
        """
        self.run(
            "export", "--type=sqlite", "--quiet=true", "--force-overwrite=true", f"--output={database}", str(report)
        )
        if not database.is_file():
            raise NsysFailed(f"nsys exported nothing from {report}", f"look at it: nsys export --type sqlite {report}")


def find() -> Nsys:
    """The nsys on PATH, or the one that ``make nsys`` unpacked.

    Raises:
        NsysMissing: there is neither, or it does not run.
    """
    named = shutil.which("nsys")
    path = Path(named) if named else UNPACKED
    if not os.access(path, os.X_OK):
        raise NsysMissing("Nsight Systems (nsys) is not on this machine", _INSTALL)
    try:
        said = _run([str(path), "--version"], within_s=60)
    except NsysFailed as error:
        raise NsysMissing(f"{path} does not run: {error.message}", _INSTALL) from error
    version = next((word for word in said.split() if word[:4].isdigit() and "." in word), said.strip())
    return Nsys(path, _importer(path), version)


def _importer(nsys: Path) -> Path | None:
    """NVIDIA's folders for target and host are neighbours; Debian's host folder is below another ``lib``."""
    for above in list(nsys.resolve().parents)[:5]:
        for place in (above, above / "nsight-systems"):
            found = place / "host-linux-x64" / "QdstrmImporter"
            if os.access(found, os.X_OK):
                return found
    return None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of this: what stops a capture, imports or exports it is not to be killed half-way.

    Whatever handles it is told at the end, as often as it was typed. Without effect where nothing of Python's does, and
    in another thread than the main one.

    Raises:
        KeyboardInterrupt: at the end, if it was typed meanwhile and nobody else handles it.
    """
    typed: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    try:
        signal.signal(signal.SIGINT, lambda number, _: typed.append(number))
    except ValueError:  # another thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for number in typed:
            handler(number, None)


def _run(command: list[str], within_s: float) -> str:
    try:
        with uninterrupted():
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=within_s,
                start_new_session=True,
                check=False,
            )
    except OSError as error:
        raise NsysFailed(f"{command[0]}: {error.strerror}", "install Nsight Systems anew") from error
    except subprocess.TimeoutExpired as error:
        raise NsysFailed(f"{' '.join(command[:2])} did not end within {within_s:g} s", "try it by hand") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-_LAST_CHARACTERS:]
        raise NsysFailed(
            f"{' '.join(command[:2])} ended with {done.returncode}: {said or 'it said nothing'}", "try it by hand"
        )
    return done.stdout


__all__ = ["UNPACKED", "Nsys", "NsysFailed", "NsysMissing", "find", "uninterrupted"]
