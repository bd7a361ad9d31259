"""Corpora: what a suite may name, what is taken out of an archive, and what happens when it does not arrive."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from slipstream.ensemble.retrieval.evaluation.archives import ArchiveUnusable, unpack
from slipstream.ensemble.retrieval.evaluation.corpora import CorpusUnreachable, fetch, fetch_corpora
from slipstream.ensemble.retrieval.evaluation.suite import Corpus, Suite, SuiteInvalid, load_suite

SHA = "0" * 64
ROOT = Path(__file__).parents[4]


def corpus(source: str = "npm:shop@1.0.0", **fields: Any) -> Corpus:
    return Corpus(**{"name": "shop", "source": source, "sha256": SHA, **fields})


def npm_archive(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the package index's one archive lies in, and a program called npm that brings it."""
    served, programs = tmp_path / "served", tmp_path / "programs"
    served.mkdir()
    programs.mkdir()
    script = programs / "npm"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncp {served}/*.tgz . || {{ echo "npm error E404" >&2; exit 1; }}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return served


# A suite


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the document"),
        ("{", "suite.yaml:1 is no YAML"),
        ("corpora: []", "corpora"),
        ("corpora: [{name: a}]", "either source or path"),
        ("corpora: [{name: a, path: x, source: 'npm:a@1'}]", "either source or path"),
        ("corpora: [{name: a, source: 'npm:a@1'}]", "sha256"),
        (f"corpora: [{{name: a, source: 'npm:a', sha256: '{SHA}'}}]", "npm:NAME@VERSION"),
        (f"corpora: [{{name: a, source: 'npm:--help@1', sha256: '{SHA}'}}]", "npm:NAME@VERSION"),
        (f"corpora: [{{name: a, source: 'npm:a@1', sha256: '{SHA}', top: ../x}}]", "inside the archive"),
        ("corpora: [{name: ../a, path: x}]", "name"),
        ("corpora: [{name: a, path: x}, {name: a, path: y}]", "more than one corpus is called a"),
        ("corpora: [{name: a, path: x, split: train}]", "split"),
        ("corpora: [{name: a, path: x, includes: ['*']}]", "includes"),
    ],
)
def test_what_a_suite_cannot_say(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(SuiteInvalid, match=r"suite\.yaml") as refused:
        load_suite(tmp_path)
    assert says in refused.value.message


def test_a_folder_without_a_suite_is_told(tmp_path: Path) -> None:
    with pytest.raises(SuiteInvalid, match=r"suite\.yaml"):
        load_suite(tmp_path)


def test_our_own_suite_is_pinned_and_leaves_out_what_is_kept_for_an_independent_check() -> None:
    suite = load_suite(ROOT / "tests" / "retrieval")
    assert {one.ecosystem for one in suite.corpora} == {"pypi", "npm", "debian"}
    assert {one.split for one in suite.corpora} == {"development", "test"}
    names = {one.package[0] for one in suite.corpora}
    assert not names & {"httpx", "rich", "click", "werkzeug", "networkx", "marshmallow"}


def test_ecosystems_can_be_left_out() -> None:
    suite = Suite(corpora=(corpus(), corpus("pypi:shop==1", name="other")))
    assert [one.name for one in suite.narrowed(("npm",), ()).corpora] == ["shop"]
    assert [one.name for one in suite.narrowed((), ("npm",)).corpora] == ["other"]
    with pytest.raises(SuiteInvalid, match="no corpus is left"):
        suite.narrowed(("npm",), ("npm",))


# An archive


def test_nothing_leaves_the_folder(tmp_path: Path) -> None:
    archive = npm_archive(
        tmp_path / "a.tgz",
        **{
            "package/ok.js": b"1",
            "package/../../evil.js": b"2",
            "/evil.js": b"3",
            "other/no.js": b"4",
            "package\\e.js": b"5",
        },
    )
    assert unpack(archive, corpus(top="package"), tmp_path / "out" / "in") == 1
    assert found(tmp_path / "out") == {"in/ok.js"}


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"package/{name}.js")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("./package/ok.js")
        tar.addfile(member, io.BytesIO())
    assert unpack(archive, corpus(top="package"), tmp_path / "out") == 1
    assert found(tmp_path / "out") == {"ok.js"}


def test_a_link_in_a_wheel_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        link = zipfile.ZipInfo("shop/link.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        wheel.writestr(link, "/etc/passwd")
        wheel.writestr("shop/ok.py", "x = 1")
    assert unpack(tmp_path / "a.whl", corpus("pypi:shop==1", top="shop"), tmp_path / "out") == 1
    assert found(tmp_path / "out") == {"ok.py"}


def test_only_what_the_patterns_name_is_taken(tmp_path: Path) -> None:
    archive = npm_archive(
        tmp_path / "a.tgz",
        **{"p/src/a.ts": b"1", "p/src/tests/b.ts": b"2", "p/README.md": b"3", "p/dist/src/c.ts": b"4"},
    )
    wanted = corpus(top="p", include=("/src/**/*.ts",), exclude=("tests/",))
    unpack(archive, wanted, tmp_path / "out")
    assert found(tmp_path / "out") == {"src/a.ts"}


def test_an_archive_without_anything_that_is_wanted_is_a_mistake_in_the_suite(tmp_path: Path) -> None:
    archive = npm_archive(tmp_path / "a.tgz", **{"package/a.js": b"1"})
    with pytest.raises(SuiteInvalid, match="holds no file"):
        unpack(archive, corpus(top="lib"), tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tgz", "a.whl", "a.deb"])
def test_a_damaged_archive_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK not at all")
    with pytest.raises(ArchiveUnusable, match=r"a\.(tgz|whl|deb)"):
        unpack(tmp_path / name, corpus(), tmp_path / "out")


# Fetching


def test_what_was_fetched_once_is_not_asked_for_again(npm: Path, tmp_path: Path) -> None:
    archive = npm_archive(npm / "shop-1.0.0.tgz", **{"package/a.js": b"1", "package/b.js": b"2"})
    wanted = corpus(sha256=hashlib.sha256(archive.read_bytes()).hexdigest(), top="package")
    place = fetch(wanted, tmp_path / "corpora")
    assert found(place) == {"a.js", "b.js"}
    assert fetch(wanted, tmp_path / "corpora") == place
    other = fetch(wanted.model_copy(update={"include": ("a.js",)}), tmp_path / "corpora")
    assert found(other) == {"a.js"}
    assert (tmp_path / "asked").read_text() == "pack --silent --ignore-scripts shop@1.0.0\n"


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(npm: Path, tmp_path: Path) -> None:
    npm_archive(npm / "shop-1.0.0.tgz", **{"package/a.js": b"1"})
    with pytest.raises(CorpusUnreachable, match="is pinned"):
        fetch(corpus(), tmp_path / "corpora")
    assert found(tmp_path / "corpora") == set()


def test_an_index_that_says_no_is_quoted_with_a_way_out(npm: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusUnreachable, match="could not download npm:shop@1") as refused:
        fetch(corpus(), tmp_path / "corpora")
    assert "--skip npm" in refused.value.remedy


@pytest.mark.parametrize(
    ("source", "remedy"), [("npm:shop@1.0.0", "install npm"), ("debian:shop=1.0", "run this on Debian")]
)
def test_a_missing_tool_is_named_with_what_to_install(
    source: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusUnreachable, match=source) as refused:
        fetch(corpus(source), tmp_path / "corpora")
    assert remedy in refused.value.remedy
    assert "--skip" in refused.value.remedy


def test_a_local_folder_is_relative_to_the_suite(tmp_path: Path) -> None:
    suite = Suite(corpora=(Corpus(name="shop", path=Path("../src")),))
    with pytest.raises(SuiteInvalid, match="no folder"):
        fetch_corpora(suite, tmp_path / "suite", tmp_path, lambda share, doing: None)
    (tmp_path / "src").mkdir()
    folders = fetch_corpora(suite, tmp_path / "suite", tmp_path, lambda share, doing: None)
    assert folders == {"shop": tmp_path / "src"}
