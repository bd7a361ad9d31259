"""A repository, or the git that reads it, that goes away while it is indexed; and names that are no text."""

import os
import shutil
from pathlib import Path

import psutil
import pytest

from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.freshness.git import Repository
from slipstream.ensemble.retrieval.index import NothingToIndex
from slipstream.ensemble.retrieval.roots import SourceNotFound
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import NAME, Recorder, function, run, write

MANY = 300  # more than is read before the first is embedded


class Meanwhile(Recorder):
    """An embedder that does something before the first text."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.happens = lambda: None

    def meanwhile(self) -> None:
        happens, self.happens = self.happens, lambda: None
        happens()


@pytest.fixture
def eventful(folder: Path) -> Meanwhile:
    return Meanwhile(folder)


@pytest.fixture
def large(repository: GitRepository) -> GitRepository:
    repository.commit({f"many/f{number}.py": function(f"f_{number}") for number in range(MANY)})
    return repository


# While it is indexed


def test_a_repository_that_is_deleted_while_it_is_read_is_no_version(
    large: GitRepository, index: EdgeStore, eventful: Meanwhile, tmp_path: Path
) -> None:
    shutil.copytree(large.path, tmp_path / "backup", symlinks=True)
    eventful.happens = lambda: shutil.rmtree(large.path)
    follower = Follower(index, eventful, large.path)
    assert follower.look() is None
    assert index.collections() == []
    (tmp_path / "backup").rename(large.path)
    assert follower.changed().files == MANY + 3


def test_a_commit_that_is_collected_while_it_is_read_is_no_version(
    large: GitRepository, index: EdgeStore, eventful: Meanwhile
) -> None:
    def force() -> None:
        large.git("reset", "-q", "--hard", "HEAD~1")
        large.git("reflog", "expire", "--expire=now", "--all")
        large.git("gc", "-q", "--prune=now")

    eventful.happens = force
    follower = Follower(index, eventful, large.path)
    follower.look()  # whatever git still had open may do for all of it
    report = follower.look() or follower.reports[-1]
    assert report.skipped == {}
    assert follower.paths() == {"cart.py", "deep/price.py", "tax.py"}


def test_a_git_that_is_killed_is_started_again(large: GitRepository, index: EdgeStore, eventful: Meanwhile) -> None:
    def kill() -> None:
        gits = [process for process in psutil.Process().children(recursive=True) if process.name() == "git"]
        assert gits
        for process in gits:
            process.kill()

    eventful.happens = kill
    report = Follower(index, eventful, large.path).changed()
    assert (report.files, report.skipped) == (MANY + 3, {})


def test_an_object_that_is_missing_is_counted_and_the_others_are_read(
    repository: GitRepository, follower: Follower
) -> None:
    oid = repository.git("rev-parse", "HEAD:tax.py")
    (repository.path / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    report = follower.changed()
    assert (report.skipped, report.chunks) == ({"unreadable": 1}, 3)


def test_a_partial_clone_is_indexed_as_far_as_it_goes_and_fetches_nothing(
    repository: GitRepository, index: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    repository.git("config", "uploadpack.allowFilter", "true")
    partial = ("clone", "-q", "--filter=blob:none", "--sparse")  # what lies at the top, and nothing below
    repository.git(*partial, f"file://{repository.path}", str(tmp_path / "partial"))
    report = Follower(index, embedder, tmp_path / "partial").changed()
    assert (report.skipped, report.files, report.chunks) == ({"unreadable": 1}, 2, 3)
    oid = repository.git("rev-parse", "HEAD:deep/price.py")
    missing = repository.git("-C", str(tmp_path / "partial"), "rev-list", "--objects", "--missing=print", "HEAD")
    assert f"?{oid}" in missing


def test_a_folder_that_is_deleted_while_it_is_read_is_no_version(
    index: EdgeStore, eventful: Meanwhile, tmp_path: Path
) -> None:
    for number in range(MANY):
        write(tmp_path / "plain" / f"f{number}.py", function(f"f_{number}"))
    eventful.happens = lambda: shutil.rmtree(tmp_path / "plain")
    with pytest.raises(SourceNotFound, match="not there any more") as caught:
        run(tmp_path / "plain", store=index, embedder=eventful)
    assert not isinstance(caught.value, NothingToIndex)
    assert index.collections() == []


# Repositories within repositories


def test_a_repository_that_loses_its_git_does_not_become_the_one_around_it(
    repository: GitRepository, index: EdgeStore, embedder: Recorder
) -> None:
    inner = GitRepository(repository.path / "inner")
    inner.commit({"mine.py": function("mine")})
    follower = Follower(index, embedder, inner.path)
    follower.changed()
    shutil.rmtree(inner.path / ".git")
    assert follower.look() is None
    assert follower.paths() == {"mine.py"}


def test_a_submodule_is_followed_and_does_not_become_its_superproject(
    repository: GitRepository, index: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    part = GitRepository(tmp_path / "part")
    part.commit({"part.py": function("part")})
    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q")
    repository.git(*add, str(part.path), "lib")
    repository.commit()
    follower = Follower(index, embedder, repository.path / "lib")
    follower.changed()
    assert follower.paths() == {"part.py"}
    repository.git("submodule", "deinit", "-q", "--force", "lib")
    assert follower.look() is None
    assert follower.paths() == {"part.py"}


def test_a_folder_inside_a_bare_repository_is_that_repository(repository: GitRepository) -> None:
    repository.git("clone", "-q", "--bare", ".", "bare.git")
    top = repository.path / "bare.git"
    around = Repository.around(top / "objects")
    assert around == Repository.around(top) == Repository(top)
    assert around.head().commit == repository.git("rev-parse", "HEAD")


# Names


@pytest.mark.parametrize("command", ["tag", "branch"])
def test_a_branch_or_a_tag_that_is_no_text_is_shown_as_well_as_may_be(
    command: str, repository: GitRepository, index: EdgeStore, embedder: Recorder
) -> None:
    name = os.fsdecode(b"caf\xe9")
    repository.git(command, name)
    repository.git("checkout", "-q", name)
    assert run(repository.path, store=index, embedder=embedder).revisions[0].endswith("(caf\ufffd)")
    assert index.current(NAME).facts["revisions"][0]["commit"] == repository.git("rev-parse", "HEAD")


def test_a_repository_in_a_folder_with_a_line_feed_in_its_name(
    index: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    made = GitRepository(tmp_path / "two\nlines")
    made.commit({"below/a.py": function("first")})
    made.git("worktree", "add", "-q", "--detach", str(tmp_path / "three\nmore\nlines"))
    for place in (made.path, made.path / "below", tmp_path / "three\nmore\nlines"):
        follower = Follower(index, embedder, place)
        follower.look()
        assert follower.reports
        assert {Path(path).name for path in follower.paths()} == {"a.py"}
    (private,) = (made.path / ".git" / "worktrees").iterdir()
    (private / "rebase-merge").mkdir()
    assert Repository.around(tmp_path / "three\nmore\nlines").head().rebasing
    assert not Repository.around(made.path).head().rebasing
