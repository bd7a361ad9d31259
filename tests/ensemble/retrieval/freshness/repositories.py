"""Git repositories made by git itself, and what follows them."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from slipstream.ensemble.contracts import Hit, SearchRequest
from slipstream.ensemble.retrieval.freshness.commits import Commits
from slipstream.ensemble.retrieval.freshness.revisions import KEEP
from slipstream.ensemble.retrieval.freshness.watch import Watch
from slipstream.ensemble.retrieval.index import IndexReport, build_version
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.store import VectorStore
from tests.ensemble.retrieval.indexing import NAME, Recorder

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"],
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}  # fmt: skip


class GitRepository:
    """A working tree; ``main`` is its first branch, without a commit yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], capture_output=True, text=True, env=_ENVIRONMENT, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")

    def commit(self, files: Mapping[str, str] | None = None) -> str:
        """Write ``files``, commit all there is, and give the commit."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Change")
        return self.git("rev-parse", "HEAD")


class Follower:
    """A watch of ``paths`` that looks when it is told to."""

    def __init__(self, store: VectorStore, embedder: Recorder, *paths: Path, keep: int = KEEP) -> None:
        self.store = store
        self.embedder = embedder
        self.keep = keep
        self.reports: list[IndexReport] = []
        self.watch = Watch([str(path) for path in paths], self._make, self.reports.append)

    def _make(self, commits: Commits) -> IndexReport:
        return build_version(commits, NAME, self.store, self.embedder, lambda share, doing: None, keep=self.keep)

    def look(self) -> IndexReport | None:
        """What was made of the change there was; None if there was none, or it could not be indexed."""
        before = len(self.reports)
        self.embedder.texts.clear()
        self.watch.step()
        return self.reports[-1] if len(self.reports) > before else None

    def changed(self) -> IndexReport:
        report = self.look()
        assert report is not None
        return report

    def paths(self) -> set[str]:
        """Of the chunks of the published version."""
        reader = self.store.reader(NAME)
        try:
            return {point.chunk.path for point in reader.scroll()}
        finally:
            reader.close()

    def find(self, query: str, revision: str | None = None) -> list[Hit]:
        searcher = Searcher(self.store, self.embedder.digest)
        try:
            request = SearchRequest(query=query, collection=NAME, revision=revision)
            return searcher.search(request, self.embedder.embed([query])[0]).hits
        finally:
            searcher.close()
