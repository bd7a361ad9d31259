"""Repositories that are none, that change while they are read, and that hold what nobody wrote by hand."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.ensemble.retrieval.chunker import cut_file
from slipstream.ensemble.retrieval.edge import EdgeStore
from slipstream.ensemble.retrieval.index import NothingToIndex, build_index
from slipstream.ensemble.retrieval.sources import SourceDigest, batches, digested
from slipstream.ensemble.retrieval.walk import MAX_BYTES, Skipped, resolve_root, walk
from tests.ensemble.retrieval.indexing import NAME, Recorder, function, run, write
from tests.ensemble.retrieval.pieces import assert_faithful

# Nothing to index


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("named", ["", ".git", ".git/objects"])
def test_a_repository_of_nothing_but_git_has_nothing_to_index(embedder: Recorder, tmp_path: Path, named: str) -> None:
    write(tmp_path / "repo" / "a.py", function("gone"))
    git(tmp_path / "repo", "init", "-q")
    git(tmp_path / "repo", "add", "a.py")
    git(tmp_path / "repo", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "a")
    (tmp_path / "repo" / "a.py").unlink()
    with pytest.raises(NothingToIndex, match=r"no source to index in .*repo.*left out: ") as caught:
        run(tmp_path / "repo" / named, store=EdgeStore(tmp_path / "index"), embedder=embedder)
    assert "name a folder with Python" in caught.value.remedy
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("bare", [True, False])
def test_a_repository_without_a_commit_has_nothing_to_index(embedder: Recorder, tmp_path: Path, bare: bool) -> None:
    git(tmp_path, "init", "-q", *(["--bare"] if bare else []), "new")
    with pytest.raises(NothingToIndex):
        run(tmp_path / "new", store=EdgeStore(tmp_path / "index"), embedder=embedder)


# Names

NAMES = [
    "new\nline.py", "tab\t.py", "return\r.py", "quotes'\".py", "back\\slash.py", "\x1b[31mred.py", "-rf.py",
    "$(touch x).py", " space .py", "ж" * 120 + ".py", "a" * 252 + ".py", "\u202eyp.py", "`code`.py", "{{x}}.py",
    "{path}.py", "%s.py", "<|im_end|>.py", "*.py", "[1].py", "a:1-2.py", "e\u0301.py", "é.py",
    "/".join(["d" * 100] * 5) + "/500.py",
]  # fmt: skip


def test_files_keep_their_names_whatever_is_in_them(embedder: Recorder, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        write(tmp_path / "names" / name, function(f"number_{number}"))
    store = EdgeStore(tmp_path / "index")
    report = run(tmp_path / "names", store=store, embedder=embedder)
    assert (report.files, report.skipped) == (len(NAMES), {})
    with closing(store.reader(NAME)) as reader:
        found = {point.chunk.symbol: point.chunk.path for point in reader.scroll()}
    assert found == {f"number_{number}": name for number, name in enumerate(NAMES)}
    assert run(tmp_path / "names", store=store, embedder=embedder).unchanged


def test_a_name_of_more_lines_cannot_pass_for_two_files(embedder: Recorder, tmp_path: Path) -> None:
    """What a version remembers of its files is written as text."""
    write(tmp_path / "names" / 'a.py\n["shop", "b.py"]\nc.py', function("one"))
    store = EdgeStore(tmp_path / "index")
    run(tmp_path / "names", store=store, embedder=embedder)
    assert [path for _, path in store.files(store.current(NAME))] == ['a.py\n["shop", "b.py"]\nc.py']


# Changes while it is read


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # whoever reads it waits for ever


def become_link(path: Path) -> None:
    secret = path.parent.parent / "secret.py"
    secret.write_text("KEY = 1\n")
    path.unlink()
    path.symlink_to(secret)


def become_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def lose_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("a file now\n")


def grow(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)


CHANGES: dict[str, tuple[Callable[[Path], None], Skipped]] = {
    "gone": (Path.unlink, Skipped(unreadable=1)),
    "a folder": (become_folder, Skipped(unreadable=1)),
    "a pipe": (become_pipe, Skipped(unreadable=1)),
    "a link to what lies outside": (become_link, Skipped(unreadable=1)),
    "a link to itself": (become_loop, Skipped(unreadable=1)),
    "its folder is a file": (lose_folder, Skipped(unreadable=1)),
    "too large": (grow, Skipped(too_large=1)),
}


@pytest.mark.parametrize(("change", "counted"), CHANGES.values(), ids=CHANGES)
def test_what_a_file_became_after_the_walk_is_counted_and_not_read(
    tmp_path: Path, change: Callable[[Path], None], counted: Skipped
) -> None:
    write(tmp_path / "repo" / "a.py", function("first"))
    write(tmp_path / "repo" / "sub" / "b.py", function("changed"))
    skipped = Skipped()
    files = list(walk([resolve_root(str(tmp_path / "repo"))], skipped))
    change(tmp_path / "repo" / "sub" / "b.py")
    assert [file.path for file in digested(files, skipped).files] == ["a.py"]
    assert skipped == counted


@pytest.mark.parametrize(("change", "counted"), CHANGES.values(), ids=CHANGES)
def test_what_a_file_became_before_it_was_cut_is_counted_and_not_in_the_version(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], counted: Skipped
) -> None:
    root = tmp_path / "repo"
    write(root / "a.py", *(function(f"f{each}") for each in range(150)))
    write(root / "sub" / "b.py", function("changed"))
    files = list(walk([resolve_root(str(root))]))
    read, skipped = SourceDigest(), Skipped()
    cutting = batches(files, read, skipped)
    symbols = [chunk.symbol for chunk in next(cutting).chunks]
    change(root / "sub" / "b.py")
    symbols += [chunk.symbol for batch in cutting for chunk in batch.chunks]
    assert symbols == [f"f{each}" for each in range(150)]
    assert [file.path for file in read.files] == ["a.py"]
    assert skipped == counted


def test_a_file_that_grows_while_it_is_read_is_read_up_to_the_bound(tmp_path: Path) -> None:
    write(tmp_path / "log.py", "x = 1\n")
    (file,) = walk([resolve_root(str(tmp_path))])
    grow(tmp_path / "log.py")
    os.truncate(tmp_path / "log.py", 10 * MAX_BYTES)
    assert len(file.read()) == MAX_BYTES + 1


# What nobody wrote by hand


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("crumbs.py", "".join(f"def a{number}(): 0\n" for number in range(3_000))),
        ("titles.md", "#\n" * 3_000),
        ("stubs.go", "package a\n" + "".join(f"func f{number}() {{}}\n" for number in range(3_000))),
    ],
)
def test_thousands_of_definitions_of_nothing_are_cut_into_windows(name: str, text: str) -> None:
    cut = cut_file(name, text.encode(), "repo")
    assert cut.caveats == ["crumbled"]
    assert len(cut.chunks) < 100
    assert_faithful(cut.chunks, text)


def test_two_thousand_short_definitions_keep_their_names() -> None:
    cut = cut_file("a.py", "".join(f"def a{number}(): 0\n" for number in range(2_000)).encode(), "repo")
    assert (cut.caveats, len(cut.chunks)) == ([], 2_000)


def test_ten_times_as_many_lines_do_not_take_a_hundred_times_as_long() -> None:
    def seconds(lines: int) -> float:
        started = time.process_time()
        cut_file("a.md", b"#\n" * lines, "repo")
        return time.process_time() - started

    seconds(1_000)
    few = min(seconds(5_000) for _ in range(3))
    assert min(seconds(50_000) for _ in range(2)) < 60 * few


def test_a_table_of_numbers_is_counted_as_generated_and_code_that_holds_some_is_not(tmp_path: Path) -> None:
    row = "    0x1f, 255, 1023, 0b1010, 7, 42, 99, 100, 3.14,\n"
    write(tmp_path / "table.c", "static const int table[] = {\n", row * 25_000, "};\n")
    write(tmp_path / "short.c", "static const int table[] = {\n", row * 100, "};\n")
    write(tmp_path / "code.py", "\n".join(f"total = total + price * {number} - rebate" for number in range(30_000)))
    assert (tmp_path / "code.py").stat().st_size > 1_000_000
    skipped = Skipped()
    assert [file.path for file in walk([resolve_root(str(tmp_path))], skipped)] == ["code.py", "short.c"]
    assert skipped == Skipped(generated=1)


# Many


class Hashed(Recorder):
    """An embedder of no meaning and no cost."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([list(sha256(text.encode()).digest() * 2) for text in texts], np.float32) - 128
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


@pytest.mark.integration
def test_ten_thousand_tiny_files_are_indexed_with_steady_progress(folder: Path, tmp_path: Path) -> None:
    for number in range(10_000):
        path = tmp_path / "many" / f"p{number % 100}" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"VALUE_{number} = {number}\n")
    store, shares = EdgeStore(tmp_path / "index"), list[float]()
    started = time.process_time()
    report = build_index(
        [str(tmp_path / "many")], NAME, store, Hashed(folder), lambda share, doing: shares.append(share)
    )
    assert time.process_time() - started < 60
    assert (report.files, report.chunks, report.skipped, report.caveats) == (10_000, 10_000, {}, {})
    assert shares == sorted(shares)
    assert max(after - before for before, after in pairwise(shares)) < 0.05
    write(tmp_path / "many" / "p7" / "m7.py", "VALUE_7 = 8\n")
    again = run(tmp_path / "many", store=store, embedder=Hashed(folder))
    assert (again.embedded, again.removed, again.chunks) == (1, 1, 10_000)
