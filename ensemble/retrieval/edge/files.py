"""What a version remembers of its files: an identity of their bytes, and the digests of their chunks.

One record of four fields for each file: repo, path, content, digests. A NUL ends each field, since paths have none.
"""

from collections.abc import Mapping
from pathlib import Path

from slipstream.ensemble.retrieval.store import FileEntry, FileKey

NAME = "files.txt"


def write_files(folder: Path, contents: Mapping[FileKey, str], digests: Mapping[FileKey, list[str]]) -> None:
    """``contents`` by repo and path, with the ``digests`` of those files that have chunks."""
    records = (
        f"{repo}\0{path}\0{content}\0{' '.join(digests.get((repo, path), ()))}\0"
        for (repo, path), content in contents.items()
    )
    (folder / NAME).write_text("".join(records), encoding="utf-8", newline="")


def read_files(folder: Path) -> dict[FileKey, FileEntry]:
    """
    Raises:
        OSError: it is not there.
        ValueError: it is cut off.
    """
    with (folder / NAME).open(encoding="utf-8", newline="") as file:
        fields = file.read().split("\0")
    if fields.pop() or len(fields) % 4:
        raise ValueError(f"{NAME} is cut off")
    repos, paths, contents, digests = (fields[first::4] for first in range(4))
    return {
        (repo, path): FileEntry(content, listed.split())
        for repo, path, content, listed in zip(repos, paths, contents, digests, strict=True)
    }
