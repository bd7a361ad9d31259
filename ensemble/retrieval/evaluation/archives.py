"""What is taken out of a wheel, an npm tarball or a Debian package: plain files below one folder, and nothing else."""

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from slipstream import EnvironmentFault
from slipstream.ensemble.retrieval.evaluation.suite import Corpus, SuiteInvalid

_MAX_BYTES = 512 * 1024 * 1024  # of one corpus, unpacked; the largest known one has 3 MB


class ArchiveUnusable(EnvironmentFault):
    """An archive is damaged, or larger than any source package is."""


def unpack(archive: Path, corpus: Corpus, into: Path) -> int:
    """Write the files of ``archive`` that ``corpus`` wants to ``into`` and return how many.

    Links, devices and names that would leave the folder are left out, whoever made the archive.

    Raises:
        ArchiveUnusable: it is damaged or too large.
        SuiteInvalid: it holds nothing of what ``top`` and ``include`` name.
    """
    include, exclude = GitIgnoreSpec.from_lines(corpus.include), GitIgnoreSpec.from_lines(corpus.exclude)
    count = size = 0
    try:
        for name, data in _members(archive):
            relative = _below(name, corpus.top)
            if relative is None or not include.match_file(relative) or exclude.match_file(relative):
                continue
            size += len(data)
            if size > _MAX_BYTES:
                raise ArchiveUnusable(f"{archive.name} unpacks to more than 512 MB", "this is no source package")
            target = into / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            count += 1
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ArchiveUnusable(f"{archive.name} is damaged: {error}", "delete it and run this again") from error
    if not count:
        raise SuiteInvalid(
            f"{corpus.source} holds no file that top {corpus.top!r} and include {list(corpus.include)} name",
            "look into the archive and correct suite.yaml",
        )
    return count


def _below(name: str, top: str) -> str | None:
    """``name`` relative to the folder ``top``; None if it lies elsewhere, or climbs out of where it lies."""
    path, folder = PurePosixPath(name), PurePosixPath(top)
    if ".." in path.parts or "\\" in name or not path.is_relative_to(folder):
        return None
    relative = path.relative_to(folder).as_posix()
    return relative if relative != "." else None


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files of ``archive``."""
    if archive.suffix == ".deb":
        with tarfile.open(fileobj=io.BytesIO(_debian_data(archive))) as data:
            yield from _tar_members(data)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                kind = entry.external_attr >> 28
                if not entry.is_dir() and kind in (0, 8):  # 8 is S_IFREG; a wheel may say nothing
                    yield entry.filename, wheel.read(entry)
    else:
        with tarfile.open(archive) as tarball:
            yield from _tar_members(tarball)


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.isreg() and (file := archive.extractfile(member)) is not None:
            yield member.name, file.read()


def _debian_data(archive: Path) -> bytes:
    """The tar inside a Debian package, whatever it is compressed with.

    Raises:
        ArchiveUnusable: damaged, or there is no dpkg-deb.
    """
    try:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ArchiveUnusable("there is no dpkg-deb", "apt-get install dpkg, or leave out --skip debian") from error
    if done.returncode != 0:
        raise ArchiveUnusable(
            f"dpkg-deb cannot read {archive.name}: {done.stderr.decode(errors='replace').strip()[:200]}",
            "delete it and run this again",
        )
    return done.stdout


__all__ = ["ArchiveUnusable", "unpack"]
