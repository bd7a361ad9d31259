"""Asking for a revision, and how many of them stay."""

from contextlib import closing
from pathlib import Path

import pytest

from slipstream.ensemble.contracts import SearchRequest
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.edge.versions import CollectionFolder
from slipstream.ensemble.retrieval.freshness.git import Repository
from slipstream.ensemble.retrieval.freshness.revisions import Revision, RevisionNotFound, find, merged, retained
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.store import VersionInfo
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import NAME, Recorder, function, run

A, B = "a" * 40, "abcdef0" + "b" * 33


def version(name: str, *revisions: Revision) -> VersionInfo:
    return VersionInfo(NAME, name, "e", 8, 1, {"revisions": merged(revisions)})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("main", "3"), ("v1", "1"), (A, "1"), (A[:7].upper(), "1"), (B[:8], "3"), ("feature/x", "2"), ("b" * 7, None)],
)
def test_a_name_means_the_newest_version_that_had_it(wanted: str, found: str | None) -> None:
    versions = [
        version("3", Revision("shop", B, "main")),
        version("2", Revision("shop", "c" * 40, "feature/x")),
        version("1", Revision("shop", A, "main", ("v1",))),
    ]
    if found is None:
        with pytest.raises(RevisionNotFound, match=r"indexed are abcdef0 \(main\), ccccccc \(feature/x\), aaaaaaa"):
            find(versions, wanted)
    else:
        assert find(versions, wanted).version == found


def test_six_digits_and_two_commits_with_one_beginning_are_refused() -> None:
    versions = [version("2", Revision("r", "a" * 8 + "1" * 32)), version("1", Revision("r", "a" * 8 + "2" * 32))]
    with pytest.raises(RevisionNotFound, match="fits several commits"):
        find(versions, "a" * 8)
    with pytest.raises(RevisionNotFound, match="not indexed"):
        find(versions, "a" * 6)
    with pytest.raises(RevisionNotFound, match="no revision is"):
        find([version("1")], "main")


def test_what_was_committed_goes_before_what_was_not() -> None:
    versions = [version("2", Revision("r", A, "main", (), dirty=True)), version("1", Revision("r", A, "main"))]
    assert find(versions, A).version == "1"
    assert find(versions, "main").version == "2"


def test_what_no_revision_leads_to_goes_first() -> None:
    def at(number: int) -> Revision:
        return Revision("r", f"{number:040x}")

    versions = [version(str(number), at(number)) for number in range(9, 0, -1)]
    assert retained(versions, 4) == ["9", "8", "7", "6"]
    twice = [version("b", at(9)), version("a", at(9)), *versions]
    assert retained(twice, 4) == ["b", "a", "8", "7"]
    assert retained([version("2"), version("1"), version("0")], 8) == ["2", "1"]


def test_an_earlier_revision_is_searched_as_it_was(repository: GitRepository, follower: Follower) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "v1.0")
    follower.changed()
    repository.commit({"tax.py": "\n\n\n" + function("tax_rate"), "more.py": function("more")})
    follower.changed()

    def lines(revision: str | None) -> tuple[int, str]:
        hit = next(hit for hit in follower.find("tax_rate", revision) if hit.path == "tax.py")
        return hit.line_start, hit.text

    text = function("tax_rate").rstrip()
    assert lines(None) == lines("main") == (4, text)
    assert lines("v1.0") == lines(first) == lines(first[:7]) == (1, text)
    with pytest.raises(RevisionNotFound, match=r"indexed are .*v1\.0"):
        follower.find("tax_rate", "v2.0")


def test_the_last_revisions_stay(repository: GitRepository, index: EdgeStore, embedder: Recorder) -> None:
    follower = Follower(index, embedder, repository.path, keep=3)
    commits = []
    for number in range(5):
        commits.append(repository.commit({"n.py": function(f"number_{number}")}))
        follower.changed()
    for commit in commits[2:]:
        assert follower.find("number", commit)
    for commit in commits[:2]:
        with pytest.raises(RevisionNotFound):
            follower.find("number", commit)
    assert len(list((index._index_dir / NAME).glob("2*"))) == 3


def test_of_the_revisions_that_were_asked_for_the_last_two_stay_open(
    repository: GitRepository, index: EdgeStore, embedder: Recorder
) -> None:
    follower = Follower(index, embedder, repository.path)
    commits = []
    for number in range(4):
        commits.append(repository.commit({"n.py": function(f"number_{number}")}))
        follower.changed()
    versions = [info.version for info in reversed(index.versions(NAME))]
    folder = CollectionFolder(index._index_dir, NAME)

    def is_open(version: str) -> bool:
        lock = folder.reader_lock(version)
        free = lock.acquire()
        lock.release()
        return not free

    with closing(Searcher(index, embedder.digest)) as searcher:
        for asked, open_then in (((0, 1, 2), [1, 2]), ((1, 0), [0, 1]), ((3,), [0, 1, 3])):
            for number in asked:
                request = SearchRequest(query="number", collection=NAME, revision=commits[number])
                assert searcher.search(request, embedder.embed(["number"])[0]).index_version == versions[number]
            assert [number for number in range(4) if is_open(versions[number])] == open_then


def test_a_plain_run_remembers_the_commit_and_whether_the_tree_differs(
    repository: GitRepository, index: EdgeStore, embedder: Recorder
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    assert run(repository.path, store=index, embedder=embedder).revisions == [f"{commit[:7]} (main)"]
    repository.write({"tax.py": function("uncommitted")})
    assert run(repository.path, store=index, embedder=embedder).revisions == [f"{commit[:7]} (main, dirty)"]
    committed = repository.commit()
    report = run(repository.path, store=index, embedder=embedder)
    assert report.unchanged
    facts = index.current(NAME).facts["revisions"]
    assert [(each["commit"], each["dirty"]) for each in facts] == [(committed, False), (commit, True)]


def test_a_folder_outside_git_has_no_revision(index: EdgeStore, embedder: Recorder, tree: Path) -> None:
    assert run(tree, store=index, embedder=embedder).revisions == []
    assert index.current(NAME).facts["revisions"] == []


@pytest.mark.parametrize("driver", ["clean", "process"])
@pytest.mark.parametrize("name", ["lfs", "a=b.c"])
def test_looking_for_edits_runs_no_program_that_the_repository_names(
    driver: str, name: str, repository: GitRepository, tmp_path: Path
) -> None:
    repository.commit({".gitattributes": f"*.py filter={name}\n"})
    repository.git("config", f"filter.{name}.{driver}", f"touch {tmp_path}/ran; cat")
    repository.git("config", f"filter.{name}.required", "true")
    repository.git("config", "core.fsmonitor", f"touch {tmp_path}/ran")
    edited = function("tax_rate").replace("value +", "value -")  # as long as before, so that git has to read it
    repository.write({"tax.py": edited})
    assert Repository.around(repository.path).is_dirty()
    assert not (tmp_path / "ran").exists()
