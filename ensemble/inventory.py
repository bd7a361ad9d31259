"""The files of a folder as a manifest lists them."""

import os
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from slipstream.ensemble.manifest import MANIFEST, FileEntry


def file_entries(folder: Path, but: Collection[str] = (MANIFEST,)) -> list[FileEntry]:
    """Every file below ``folder`` but those named, sorted by its path in POSIX form."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return [
        FileEntry(path=relative, size_bytes=path.lstat().st_size, sha256=_sha256(path))
        for path in paths
        if (relative := path.relative_to(folder).as_posix()) not in but
    ]


def _sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex; a symlink is never followed: its target's name is what is hashed.

    A pipe, a socket or a device is never opened, and has no digest.
    """
    if path.is_symlink():
        return sha256(os.fsencode(path.readlink())).hexdigest()
    if not path.is_file():
        return ""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
