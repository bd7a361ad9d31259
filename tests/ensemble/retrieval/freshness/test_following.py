"""`slipstream index --watch`: what it makes of what happens to a repository."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval.chunk_process import ChunkProcess
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.freshness.git import NotARepository
from slipstream.ensemble.retrieval.freshness.watch import alone
from slipstream.ensemble.retrieval.store import VectorStore
from tests.ensemble.retrieval.freshness.repositories import Follower, GitRepository
from tests.ensemble.retrieval.indexing import NAME, Recorder, function

# What cannot be followed


def test_a_folder_outside_git_is_refused_with_a_way_out(index: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotARepository, match="not a git repository") as caught:
        Follower(index, embedder, tmp_path / "plain")
    assert "leave --watch out" in caught.value.remedy


def test_a_file_and_a_package_are_refused(index: EdgeStore, embedder: Recorder, repository: GitRepository) -> None:
    with pytest.raises(NotARepository, match="it is a file"):
        Follower(index, embedder, repository.path / "tax.py")
    with pytest.raises(NotARepository, match="an installed package"):
        Follower(index, embedder, Path("pkg:click"))


def test_two_watches_of_one_collection_would_take_it_from_each_other(tmp_path: Path) -> None:
    again = pytest.raises(StoreUnavailable, match="another slipstream index --watch")
    with alone(tmp_path, NAME), alone(tmp_path, "other"), again, alone(tmp_path, NAME):
        pass
    with alone(tmp_path, NAME):
        pass


# What is waited for


def test_a_repository_without_a_commit_is_waited_for(index: EdgeStore, embedder: Recorder, tmp_path: Path) -> None:
    bare = GitRepository(tmp_path / "new")
    follower = Follower(index, embedder, bare.path)
    assert follower.look() is None
    bare.commit()  # nothing in it
    assert follower.look() is None
    bare.commit({"a.py": function("first")})
    assert follower.changed().chunks == 1


def test_a_stopped_rebase_is_waited_for(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    repository.git("checkout", "-q", "-b", "other")
    repository.commit({"tax.py": function("tax_rate").replace("value +", "value -")})
    repository.git("checkout", "-q", "main")
    repository.commit({"tax.py": function("tax_rate").replace("value +", "value *")})
    follower.changed()
    repository.git("rebase", "-q", "other", check=False)
    assert (repository.path / ".git" / "rebase-merge").is_dir()
    assert follower.look() is None
    repository.commit({"tax.py": function("tax_rate").replace("value +", "value //")})
    assert follower.look() is None
    repository.git("rebase", "--continue")
    assert follower.changed().revisions[0].endswith("(main)")


def test_a_repository_that_is_deleted_and_made_again(repository: GitRepository, follower: Follower) -> None:
    before = follower.changed().version
    shutil.rmtree(repository.path)
    assert follower.look() is None
    assert follower.store.current(NAME).version == before
    again = GitRepository(repository.path)
    again.commit({"new.py": function("brand_new")})
    follower.changed()
    assert follower.paths() == {"new.py"}


def test_a_lost_server_is_tried_again_later(
    repository: GitRepository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower.changed()
    repository.commit({"new.py": function("brand_new")})

    def lost(*arguments: object) -> None:
        raise StoreUnavailable("Qdrant does not answer", "Start it.")

    with monkeypatch.context() as patch:
        patch.setattr(follower.store, "writer", lost)
        waits = [follower.watch.step() for _ in range(3)]
    assert waits == [1.0, 2.0, 5.0]
    assert "new.py" not in follower.paths()
    assert follower.changed().embedded == 1


# What changed


def test_nothing_new_makes_nothing(repository: GitRepository, follower: Follower) -> None:
    assert follower.changed().embedded == 4
    repository.write({"tax.py": "def uncommitted(): ..."})
    assert follower.look() is None


def test_a_renamed_file_embeds_nothing(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    repository.git("mv", "tax.py", "duty.py")
    repository.commit()
    report = follower.changed()
    assert (report.embedded, report.removed, report.chunks) == (0, 0, 4)
    assert follower.paths() == {"cart.py", "deep/price.py", "duty.py"}


def test_a_renamed_and_edited_file_embeds_what_was_edited(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    repository.git("mv", "cart.py", "basket.py")
    repository.commit({"basket.py": function("add_item") + "\n\n" + function("empty_it")})
    report = follower.changed()
    assert (report.embedded, report.removed, report.chunks) == (1, 1, 4)
    assert len(follower.embedder.texts) == 1


def test_a_branch_there_and_back_embeds_nothing(repository: GitRepository, follower: Follower) -> None:
    main = follower.changed()
    repository.git("checkout", "-q", "-b", "feature")
    repository.commit({"feature.py": function("feature_one")})
    assert follower.changed().embedded == 1
    repository.git("checkout", "-q", "main")
    back = follower.changed()
    assert (back.version, back.embedded, back.removed) == (main.version, 0, 1)
    assert follower.embedder.texts == []
    repository.git("checkout", "-q", "feature")
    repository.commit({"more.py": function("feature_two")})
    assert follower.changed().embedded == 1  # what feature had before is known from its own version


def test_a_deleted_file_is_gone(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    repository.git("rm", "-q", "cart.py")
    repository.commit()
    report = follower.changed()
    assert (report.embedded, report.removed, report.chunks) == (0, 2, 2)
    assert follower.paths() == {"deep/price.py", "tax.py"}


def test_a_file_that_becomes_a_folder(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    (repository.path / "tax.py").unlink()
    repository.commit({"tax.py/inner.py": function("inner")})
    follower.changed()
    assert follower.paths() == {"cart.py", "deep/price.py", "tax.py/inner.py"}


def test_a_branch_without_sources_leaves_what_there_was(repository: GitRepository, follower: Follower) -> None:
    before = follower.changed().version
    repository.git("checkout", "-q", "--orphan", "pages")
    repository.git("rm", "-rfq", ".")
    repository.commit({"data.bin": "1"})
    assert follower.look() is None
    assert follower.look() is None
    assert follower.store.current(NAME).version == before


def test_history_that_was_rewritten_and_pruned(repository: GitRepository, follower: Follower) -> None:
    follower.changed()
    repository.git("commit", "-q", "--amend", "--message", "Other words")
    report = follower.changed()  # another commit, the same sources
    assert report.unchanged
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "-q", "--prune=now", "--aggressive")
    repository.commit({"new.py": function("brand_new")})
    assert follower.changed().embedded == 1


def test_a_commit_while_one_is_indexed_is_the_next(repository: GitRepository, index: EdgeStore, folder: Path) -> None:
    class Meanwhile(Recorder):
        def meanwhile(self) -> None:
            if not self.texts:
                repository.commit({"tax.py": function("tax_rate_of_tomorrow"), "late.py": function("late")})

    follower = Follower(index, Meanwhile(folder), repository.path)
    follower.changed()
    assert follower.paths() == {"cart.py", "deep/price.py", "tax.py"}
    assert [hit.symbol for hit in follower.find("tax_rate") if hit.path == "tax.py"] == ["tax_rate"]
    follower.watch.step()
    assert "late.py" in follower.paths()


# What is in a commit


def test_files_are_judged_as_on_the_disk(repository: GitRepository, follower: Follower, tmp_path: Path) -> None:
    inner = GitRepository(tmp_path / "inner")
    inner.commit({"i.py": function("inner")})
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.path), "lib")
    (repository.path / "link.py").symlink_to("tax.py")
    (repository.path / os.fsdecode(b"caf\xe9.py")).write_text(function("latin"))
    (repository.path / "blob.py").write_bytes(b"a = 1\0")
    repository.commit(
        {
            ".hidden/a.py": "x = 1",
            ".hidden/b.py": "x = 1",
            "node_modules/a/b.js": "let a = 1;",
            "env/pyvenv.cfg": "",
            "env/lib/x.py": "x = 1",
            "ignored.py": function("was_added_all_the_same"),
            "made.py": "# @generated by a program\nx = 1\n",
            "notes.xyz": "?",
        }
    )
    repository.commit({".gitignore": "ignored.py\n"})
    report = follower.changed()
    assert report.skipped == {
        "hidden": 3, "unreadable": 1, "symlink": 1, "submodule": 1, "binary": 1, "ignored": 2, "generated": 1,
        "unknown_language": 1,
    }  # fmt: skip
    assert follower.paths() == {"cart.py", "deep/price.py", "tax.py", "ignored.py"}


def test_a_folder_below_the_top_and_a_second_repository(
    repository: GitRepository, index: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    other = GitRepository(tmp_path / "bank")
    other.commit({"account.py": function("open_account")})
    follower = Follower(index, embedder, repository.path / "deep", other.path)
    assert len(follower.changed().revisions) == 2
    assert follower.paths() == {"deep/price.py", "bank/account.py"}
    repository.git("rm", "-rq", "deep")
    repository.commit()
    assert follower.changed().empty_roots == [str(repository.path / "deep")]
    assert follower.paths() == {"bank/account.py"}


def test_a_shallow_clone_a_worktree_a_bare_repository_and_a_detached_head(
    repository: GitRepository, index: EdgeStore, embedder: Recorder, tmp_path: Path
) -> None:
    commit = repository.commit({"tax.py": function("tax_rate_now")})
    clone = ["git", "clone", "-q", "--depth=1", f"file://{repository.path}"]
    subprocess.run([*clone, str(tmp_path / "shallow")], check=True)
    subprocess.run([*clone, "--bare", str(tmp_path / "bare.git")], check=True)
    repository.git("worktree", "add", "-q", "--detach", str(tmp_path / "detached"))
    labels = {}
    for name in ("shallow", "bare.git", "detached"):
        follower = Follower(index, embedder, tmp_path / name)
        labels[name] = follower.changed().revisions
        assert follower.paths() == {"cart.py", "deep/price.py", "tax.py"}
    short = commit[:7]
    assert labels == {"shallow": [f"{short} (main)"], "bare.git": [f"{short} (main)"], "detached": [short]}


def test_on_a_server_too(repository: GitRepository, store: VectorStore, embedder: Recorder) -> None:
    follower = Follower(store, embedder, repository.path)
    main = follower.changed().version
    repository.git("checkout", "-q", "-b", "feature")
    repository.git("mv", "tax.py", "duty.py")
    repository.commit({"new.py": function("brand_new")})
    assert follower.changed().embedded == 1
    assert {hit.path for hit in follower.find("tax_rate")} >= {"duty.py"}
    assert {hit.path for hit in follower.find("tax_rate", "main")} == {"cart.py", "deep/price.py", "tax.py"}
    repository.git("checkout", "-q", "main")
    assert follower.changed().version == main


def test_only_what_changed_is_read_and_cut(
    repository: GitRepository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []
    real = ChunkProcess.cut
    monkeypatch.setattr(ChunkProcess, "cut", lambda it, path, *rest: (cut.append(path), real(it, path, *rest))[1])
    follower.changed()
    assert sorted(cut) == ["cart.py", "deep/price.py", "tax.py"]
    cut.clear()
    repository.commit({"tax.py": function("tax_rate_now")})
    follower.changed()
    assert cut == ["tax.py"]
