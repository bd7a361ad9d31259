"""What a walk promises: only source that people wrote, every exclusion counted, whatever the tree holds."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from slipstream import InputError
from slipstream.ensemble.retrieval.walk import MAX_BYTES, Root, Skipped, SourceFile, SourceNotFound, resolve_root, walk
from tests.ensemble.retrieval.unprivileged import unprivileged


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def walked(*folders: Path) -> tuple[list[str], Skipped]:
    skipped = Skipped()
    return [file.path for file in walk([resolve_root(str(folder)) for folder in folders], skipped)], skipped


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


# Ugly trees


def test_an_empty_folder_gives_no_file_and_no_error(tmp_path: Path) -> None:
    assert walked(tmp_path) == ([], Skipped())


def test_a_loop_of_links_ends_and_is_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c.py": "x = 1\n"})
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "here").symlink_to(".")
    assert walked(tmp_path) == (["a/b/c.py"], Skipped(symlink_loop=3))


def test_links_are_not_followed_so_a_repository_cannot_index_what_lies_outside(tmp_path: Path) -> None:
    write(tmp_path, {"secret/key.py": "KEY = 1\n", "repo/a.py": "x = 1\n"})
    (tmp_path / "repo" / "linked").symlink_to(tmp_path / "secret")
    (tmp_path / "repo" / "key.py").symlink_to(tmp_path / "secret" / "key.py")
    (tmp_path / "repo" / "gone.py").symlink_to(tmp_path / "nowhere")
    assert walked(tmp_path / "repo") == (["a.py"], Skipped(symlink=3))


def test_a_root_that_is_a_link_is_walked(tmp_path: Path) -> None:
    write(tmp_path, {"real/a.py": "x = 1\n"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert walked(tmp_path / "link")[0] == ["a.py"]


def test_a_file_of_50_mb_is_counted_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(50_000_000)  # a hole: reading it would find NUL and say "binary"
    assert walked(tmp_path) == ([], Skipped(too_large=1))


def test_a_file_of_exactly_the_limit_is_taken(tmp_path: Path) -> None:
    line = b"total = a + b\n"
    write(tmp_path, {"a.py": line * (MAX_BYTES // 14) + b"\n" * (MAX_BYTES % 14), "b.py": line * (MAX_BYTES // 14 + 1)})
    assert (tmp_path / "a.py").stat().st_size == MAX_BYTES
    assert walked(tmp_path) == (["a.py"], Skipped(too_large=1))


def test_a_pipe_and_a_socket_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.py"))
        assert walked(tmp_path) == ([], Skipped(unreadable=2))


@pytest.mark.parametrize("mode", [0, 0o200, 0o100])
def test_what_may_not_be_read_is_counted(tmp_path: Path, mode: int) -> None:
    write(tmp_path, {"a.py": "x = 1\n", "b/c.py": "x = 1\n", "d.py": "x = 1\n"})
    (tmp_path / "a.py").chmod(mode)
    (tmp_path / "b").chmod(mode)
    try:
        assert unprivileged(lambda: walked(tmp_path)) == (["d.py"], Skipped(unreadable=2))
    finally:
        (tmp_path / "b").chmod(0o700)


def test_what_is_in_a_folder_that_may_be_listed_and_not_entered_is_counted(tmp_path: Path) -> None:
    write(tmp_path, {"b/c.py": "x = 1\n", "b/d/e.py": "x = 1\n", "a.py": "x = 1\n"})
    (tmp_path / "b").chmod(0o400)
    try:
        assert unprivileged(lambda: walked(tmp_path)) == (["a.py"], Skipped(unreadable=2))
    finally:
        (tmp_path / "b").chmod(0o700)


@pytest.mark.parametrize(("closed", "named"), [("b", "b"), ("b", "b/c.py"), ("b/c.py", "b/c.py")])
def test_a_root_that_may_not_be_read_is_told(tmp_path: Path, closed: str, named: str) -> None:
    write(tmp_path, {"b/c.py": "x = 1\n"})
    (tmp_path / closed).chmod(0)
    try:
        with pytest.raises(SourceNotFound, match=named) as caught:
            unprivileged(lambda: resolve_root(str(tmp_path / named)))
        assert caught.value.remedy
    finally:
        (tmp_path / closed).chmod(0o700)


def test_a_root_that_may_be_listed_and_not_entered_has_its_files_counted(tmp_path: Path) -> None:
    write(tmp_path, {"b/c.py": "x = 1\n"})
    (tmp_path / "b").chmod(0o400)
    try:
        assert unprivileged(lambda: walked(tmp_path / "b")) == ([], Skipped(unreadable=1))
    finally:
        (tmp_path / "b").chmod(0o700)


def test_a_path_longer_than_the_system_takes_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, depth = "d" * 200, 21  # PATH_MAX is 4096
    monkeypatch.chdir(write(tmp_path, {"a.py": "x = 1\n"}))
    for _ in range(depth):
        Path(folder).mkdir()
        os.chdir(folder)
    Path("b.py").write_text("x = 1\n")
    assert walked(tmp_path) == (["a.py"], Skipped(unreadable=1))
    with pytest.raises(SourceNotFound):
        resolve_root("b.py")


def test_a_name_that_is_not_unicode_is_counted(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.py")).write_text("x = 1\n")
    assert walked(tmp_path) == ([], Skipped(unreadable=1))


def test_what_vanishes_during_the_walk_is_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "b.py": "", "c/d.py": ""})
    skipped = Skipped()
    files = walk([resolve_root(str(tmp_path))], skipped)
    assert next(files).path == "a.py"
    (tmp_path / "b.py").unlink()
    shutil.rmtree(tmp_path / "c")
    assert (list(files), skipped) == ([], Skipped(unreadable=2))


def test_a_folder_called_like_a_file_is_walked(tmp_path: Path) -> None:
    assert walked(write(tmp_path, {"package.py/a.py": "x = 1\n"}))[0] == ["package.py/a.py"]


# What is left out


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", b"x = 1\0\n", "binary"),
        ("a.py", "x = 1\n".encode("utf-16-le"), "binary"),
        ("image.png", b"\x89PNG", "unknown_language"),
        ("Makefile", "all:\n", "unknown_language"),
        (".hidden.py", "x = 1\n", "hidden"),
        (".github/a.py", "x = 1\n", "hidden"),
        (".git/hooks/a.py", "x = 1\n", "hidden"),
        ("node_modules/left-pad/index.js", "x\n", "ignored"),
        ("__pycache__/a.py", "x = 1\n", "ignored"),
        ("api_pb2.py", "x = 1\n", "generated"),
        ("api_pb2_grpc.py", "x = 1\n", "generated"),
        ("api.pb.go", "package a\n", "generated"),
        ("jquery.min.js", "var a\n", "generated"),
        ("poetry.lock", "[[package]]\n", "generated"),
        ("package-lock.json", "{}\n", "generated"),
        ("pnpm-lock.yaml", "a: 1\n", "generated"),
        ("a.go", "// Code generated by protoc-gen-go. DO NOT EDIT.\npackage a\n", "generated"),
        ("a.py", "# -*- coding: utf-8 -*-\n#\n# @generated by a tool\nx = 1\n", "generated"),
        ("a.ts", "/*\n * This file was automatically generated; do not edit it.\n */\n", "generated"),
        ("a.py", '"""Autogenerated by Thrift."""\n', "generated"),
        ("a.md", "<!-- DO NOT EDIT: made by make docs -->\n# A\n", "generated"),
        ("a.js", "/* License */\n" + "var a=1;" * 5_000, "generated"),
    ],
)
def test_what_is_left_out_has_its_reason(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    write(tmp_path, {name: content, "kept.py": "x = 1\n"})
    assert walked(tmp_path) == (["kept.py"], Skipped({reason: 1}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.py", ""),
        ("wide.py", "x = 1\n".encode("utf-16")),
        ("latin.py", "# é\n".encode("latin-1")),
        ("file-lock.py", "class FileLock: ...\n"),
        ("generator.py", 'HEADER = "# @generated, DO NOT EDIT"\n'),
        ("late.py", "x = 1\n" * 60 + "# DO NOT EDIT\n"),
        ("ids.py", "# The id is generated by the database.\nx = 1\n"),
        ("prose.md", "One paragraph on one line. " * 200 + "\n"),
        ("old_mac.py", b"x = 1\r" * 500),
        ("build/a.py", "x = 1\n"),
        ("vendor/a.go", "package a\n"),
    ],
)
def test_what_only_looks_like_it_is_kept(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert walked(write(tmp_path, {name: content})) == ([name], Skipped())


def test_a_virtual_environment_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"env/pyvenv.cfg": "home = /usr\n", "env/lib/a.py": "x = 1\n", "a.py": "x = 1\n"})
    assert walked(tmp_path) == (["a.py"], Skipped(ignored=1))


# .gitignore


def test_gitignore_is_honoured_as_git_does(tmp_path: Path) -> None:
    files = {
        ".gitignore": "*.md\n!README.md\n/out/\nlogs/\n# a comment\n\n",
        "README.md": "# A\n",
        "notes.md": "# B\n",
        "out/a.py": "x = 1\n",
        "src/out/a.py": "x = 1\n",
        "src/logs/a.py": "x = 1\n",
        "src/logs/b.py": "x = 1\n",
        "src/.gitignore": "!keep.md\n*.js\n/local.py\n",
        "src/keep.md": "# C\n",
        "src/a.js": "x\n",
        "src/local.py": "x = 1\n",
        "src/deep/local.py": "x = 1\n",
        "b.js": "x\n",
    }
    write(tmp_path, files)
    paths, skipped = walked(tmp_path)
    git(tmp_path, "init", "-q")
    listed = subprocess.check_output(["git", "-C", str(tmp_path), "ls-files", "-co", "--exclude-standard"], text=True)
    assert sorted(paths) == sorted(path for path in listed.split() if not path.endswith(".gitignore"))
    assert skipped["ignored"] == 5


def test_the_rules_of_the_repository_around_a_root_hold(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*_local.py\n", "src/a.py": "x = 1\n", "src/my_local.py": "x = 1\n"})
    git(tmp_path, "init", "-q")
    (tmp_path / ".git" / "info" / "exclude").write_text("private/\n")
    write(tmp_path, {"src/private/a.py": "x = 1\n"})
    assert walked(tmp_path / "src") == (["a.py"], Skipped(ignored=2))


def test_an_ignored_folder_that_is_named_is_walked(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "var/\n*.py\n", "var/src/a.py": "x = 1\n"})
    git(tmp_path, "init", "-q")
    assert walked(tmp_path / "var" / "src")[0] == ["a.py"]


def test_a_broken_line_of_gitignore_takes_no_other_with_it(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": b"[\n# caf\xe9\n!\n/\nb.py\n", "a.py": "x = 1\n", "b.py": "x = 1\n"})
    assert walked(tmp_path) == (["a.py"], Skipped(hidden=1, ignored=1))


def test_a_gitignore_from_windows_is_read_as_git_does(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "\ufeff*_a.py\r\n*_b.py\r\n", "x_a.py": "", "x_b.py": "", "x.py": ""})
    git(tmp_path, "init", "-q")
    listed = subprocess.check_output(["git", "-C", str(tmp_path), "ls-files", "-co", "--exclude-standard"], text=True)
    assert walked(tmp_path)[0] == ["x.py"] == listed.split()[1:]


def test_a_gitignore_that_is_a_link_is_not_read(tmp_path: Path) -> None:  # it may lead to a device without end
    write(tmp_path, {"rules": "*.py\n", "repo/a.py": "x = 1\n"})
    (tmp_path / "repo" / ".gitignore").symlink_to("../rules")
    assert walked(tmp_path / "repo")[0] == ["a.py"]


def test_a_gitignore_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1\n"})
    os.mkfifo(tmp_path / ".gitignore")
    assert walked(tmp_path)[0] == ["a.py"]


# Paths and roots


def test_files_come_in_the_same_order_with_what_is_needed_to_read_them(tmp_path: Path) -> None:
    write(tmp_path / "repo", {"b.py": "x = 1\n", "c/a.py": "", "a/z.py": "", "a.py": "", "a/b/c.py": ""})
    files = list(walk([resolve_root(str(tmp_path / "repo"))]))
    assert [file.path for file in files] == ["a.py", "b.py", "a/z.py", "a/b/c.py", "c/a.py"]
    assert files[1] == SourceFile("b.py", (tmp_path / "repo" / "b.py").resolve(), "repo", 6)


def test_several_roots_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.py": "", "two/a.py": ""})
    assert walked(tmp_path / "one", tmp_path / "two")[0] == ["one/a.py", "two/a.py"]


def test_a_folder_whose_name_is_not_unicode_can_be_one_of_several_roots(tmp_path: Path) -> None:
    folders = [Path(os.fsdecode(bytes(tmp_path) + name)) for name in (b"/caf\xe9", b"/caf\xe8", b"/plain")]
    paths, skipped = walked(*(write(folder, {"a.py": ""}) for folder in folders))
    assert (paths, skipped) == (["caf\\xe9/a.py", "caf\\xe8/a.py", "plain/a.py"], Skipped())


def test_folders_of_one_name_get_longer_prefixes(tmp_path: Path) -> None:
    write(tmp_path, {"one/src/a.py": "", "two/src/a.py": "", "lib/a.py": ""})
    paths, _ = walked(tmp_path / "one" / "src", tmp_path / "two" / "src", tmp_path / "lib")
    assert paths == ["one/src/a.py", "two/src/a.py", "lib/a.py"]


def test_no_two_files_share_a_path_even_where_prefixes_meet_folders(tmp_path: Path) -> None:
    write(tmp_path, {"p/a/b/x.py": "", "q/a/b/x.py": "", "r/b/x.py": ""})
    paths, _ = walked(tmp_path / "p" / "a", tmp_path / "q" / "a" / "b", tmp_path / "r" / "b")
    assert len(set(paths)) == len(paths) == 3


def test_a_root_named_twice_or_within_another_gives_each_file_once(tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": "", "src/sub/b.py": ""})
    assert walked(tmp_path / "src", tmp_path / "src")[0] == ["a.py", "sub/b.py"]
    assert walked(tmp_path / "src", tmp_path / "src" / "sub", tmp_path / "src" / "a.py")[0] == [
        "src/a.py",
        "src/sub/b.py",
    ]


def test_a_single_file_is_a_root(tmp_path: Path) -> None:
    write(tmp_path, {"src/a.py": "x = 1\n", "src/b.py": ""})
    assert walked(tmp_path / "src" / "a.py")[0] == ["a.py"]


def test_a_single_file_of_no_language_is_counted(tmp_path: Path) -> None:
    assert walked(write(tmp_path, {"a.bin": "x"}) / "a.bin") == ([], Skipped(unknown_language=1))


@pytest.mark.parametrize(
    ("argument", "folder"),
    [("pkg:fastapi", "fastapi"), ("pkg:pyyaml", "yaml"), ("pkg:pydantic-settings", "pydantic_settings")],
)
def test_a_package_is_found_by_its_import_or_its_distribution_name(argument: str, folder: str) -> None:
    root = resolve_root(argument)
    assert root.path.name == folder
    assert root.repo == argument.removeprefix("pkg:")
    assert any(file.path == "__init__.py" for file in walk([root]))


def test_a_package_of_one_file_and_a_part_of_a_package_are_roots() -> None:
    assert resolve_root("pkg:typing_extensions").path.name == "typing_extensions.py"
    assert resolve_root("pkg:starlette.middleware").path.parts[-2:] == ("starlette", "middleware")


def test_a_package_is_found_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"explosive/__init__.py": "raise SystemExit\n", "explosive/part/__init__.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve_root("pkg:explosive.part").path == (tmp_path / "explosive" / "part").resolve()


@pytest.mark.parametrize(
    "argument", ["/no/such/folder", "", "\0", "~nobody-of-that-name/x", "pkg:", "pkg:no-such-package", "pkg:../etc"]
)
def test_a_root_that_is_not_there_says_what_to_do(argument: str) -> None:
    with pytest.raises(SourceNotFound) as caught:
        resolve_root(argument)
    assert isinstance(caught.value, InputError)
    assert caught.value.remedy


def test_no_root_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to index"):
        list(walk([]))


# The repository's name


@pytest.mark.parametrize(
    "url",
    [
        "https://user:token@example.org/team/engine.git",
        "git@example.org:team/engine.git",
        "git@example.org:engine.git",
        "ssh://git@example.org/engine/",
        "../engine",
    ],
)
def test_a_repository_is_called_as_its_remote(tmp_path: Path, url: str) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "upstream", "https://example.org/other.git")
    git(tmp_path, "remote", "add", "origin", url)
    write(tmp_path, {"src/a.py": ""})
    assert resolve_root(str(tmp_path / "src")).repo == "engine"


def test_a_folder_whose_name_is_not_unicode_still_names_its_repository(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    assert resolve_root(str(write(folder, {"a.py": ""}))).repo == "caf\ufffd"


def test_a_repository_without_a_remote_is_called_as_its_folder(tmp_path: Path) -> None:
    write(tmp_path, {"plain/a.py": "", "tree/src/a.py": ""})
    git(tmp_path / "tree", "init", "-q")
    assert resolve_root(str(tmp_path / "plain")).repo == "plain"
    assert resolve_root(str(tmp_path / "tree" / "src")).repo == "tree"


def test_a_worktree_is_called_as_the_repository_it_belongs_to(tmp_path: Path) -> None:
    main = write(tmp_path / "main", {"a.py": ""})
    git(main, "init", "-q")
    git(main, "remote", "add", "origin", "https://example.org/engine.git")
    git(main, "add", "a.py")
    git(main, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "a")
    git(main, "worktree", "add", "-q", str(tmp_path / "side"))
    assert resolve_root(str(tmp_path / "side")) == Root((tmp_path / "side").resolve(), "engine")
