"""The corpora of a suite on this disk: fetched with the ecosystem's own tool, checked, unpacked, kept.

A corpus that was unpacked once is used from then on without a network. What was interrupted is begun again; nothing
half-written carries a name that is looked for.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from slipstream import EnvironmentFault
from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.evaluation.archives import unpack
from slipstream.ensemble.retrieval.evaluation.suite import Corpus, Ecosystem, Suite, SuiteInvalid


class CorpusUnreachable(EnvironmentFault):
    """A tool is missing, the index did not deliver, or delivered something else."""


@dataclass(frozen=True, slots=True)
class _Tool:
    """How an ecosystem's archive comes into the working directory.

    Attributes:
        suffix: of the archive.
        missing: what to install where the program is not there.
    """

    program: str
    suffix: str
    missing: str

    def command(self, name: str, version: str) -> list[str]:
        if self.program == "npm":
            return ["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"]
        if self.program == "apt-get":
            return ["apt-get", "download", "--quiet", f"{name}={version}"]
        return [self.program, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
                "--no-deps", "--only-binary", ":all:", f"{name}=={version}"]  # fmt: skip


_TOOLS: Mapping[Ecosystem, _Tool] = {
    "pypi": _Tool(sys.executable, ".whl", "install pip"),
    "npm": _Tool("npm", ".tgz", "install npm (apt-get install npm)"),
    "debian": _Tool("apt-get", ".deb", "run this on Debian"),
}


def fetch_corpora(suite: Suite, folder: Path, cache_dir: Path, progress: Progress) -> dict[str, Path]:
    """Corpus name -> the folder of its sources.

    Args:
        folder: the suite's own, which local paths are relative to.
        cache_dir: what is fetched lives in its ``corpora`` folder.

    Raises:
        CorpusUnreachable: says what is missing and what to install.
        SuiteInvalid: a local folder is not there, or an archive holds nothing of what is wanted.
    """
    folders = {}
    for number, corpus in enumerate(suite.corpora):
        progress(number / len(suite.corpora), corpus.name)
        folders[corpus.name] = _local(corpus, folder) if corpus.path else fetch(corpus, cache_dir / "corpora")
    progress(1.0, f"{len(folders)} corpora")
    return folders


def _local(corpus: Corpus, folder: Path) -> Path:
    place = (folder / (corpus.path or "")).expanduser().resolve()
    if not place.is_dir():
        raise SuiteInvalid(f"the corpus {corpus.name} is not there: {place} is no folder", "correct suite.yaml")
    return place


def fetch(corpus: Corpus, home: Path) -> Path:
    """The folder of a pinned package's sources below ``home``, fetched and unpacked unless it is there.

    Raises:
        CorpusUnreachable: the tool is missing or says no, or the archive is not the one that was pinned.
    """
    wanted = json.dumps([corpus.source, corpus.sha256, corpus.top, corpus.include, corpus.exclude])
    kept = home / f"{corpus.ecosystem}-{corpus.name}-{sha256(wanted.encode()).hexdigest()[:16]}"
    if kept.is_dir():
        return kept
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".aside-") as name:
        aside = Path(name)
        archive = _archive(corpus, home / "archives", aside)
        unpack(archive, corpus, aside / "unpacked")
        try:
            (aside / "unpacked").rename(kept)
        except OSError:
            if not kept.is_dir():  # else another run was first, and its copy is equal
                raise
    return kept


def _archive(corpus: Corpus, archives: Path, aside: Path) -> Path:
    """The pinned archive: kept from before, or downloaded."""
    name, version = corpus.package
    tool = _TOOLS[corpus.ecosystem]
    kept = archives / f"{corpus.sha256}{tool.suffix}"
    if kept.is_file() and _sha256(kept) == corpus.sha256:
        return kept
    _run(tool, tool.command(name, version), aside, corpus)
    found = list(aside.glob(f"*{tool.suffix}"))
    if len(found) != 1:
        raise CorpusUnreachable(f"{tool.program} brought {len(found)} archives for {corpus.source}", "report this")
    if (got := _sha256(found[0])) != corpus.sha256:
        raise CorpusUnreachable(
            f"{corpus.source} has the sha256 {got}, and {corpus.sha256} is pinned",
            "the index delivers another file than before (another platform?): check it, then correct suite.yaml",
        )
    archives.mkdir(parents=True, exist_ok=True)
    shutil.move(found[0], kept)
    return kept


def _run(tool: _Tool, command: Sequence[str], aside: Path, corpus: Corpus) -> None:
    instead = f"or leave these corpora out with --skip {corpus.ecosystem}"
    try:
        done = subprocess.run(command, cwd=aside, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise CorpusUnreachable(
            f"there is no {tool.program} to fetch {corpus.source}", f"{tool.missing}, {instead}"
        ) from error
    if done.returncode == 0:
        return
    said = [
        line for line in done.stderr.splitlines() if line.strip() and not line.lower().startswith(("w:", "npm warn"))
    ]
    update = "run apt-get update, " if corpus.ecosystem == "debian" else ""
    raise CorpusUnreachable(
        f"{tool.program} could not download {corpus.source}: {said[0] if said else 'it gave no reason'}",
        f"{update}check the network and the index, {instead}",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


__all__ = ["CorpusUnreachable", "fetch", "fetch_corpora"]
