"""What is installed against the ranges of the package and the lock that travels with it."""

from importlib.metadata import version
from pathlib import Path

import pytest

from slipstream.ensemble.doctor import libraries as module
from slipstream.ensemble.doctor.finding import NotExamined, Subject
from slipstream.ensemble.doctor.libraries import installed, libraries, out_of_range, read_lock
from tests.conftest import ROOT
from tests.ensemble.doctor.homes import settings_of

LOCK = (ROOT / module.LOCK).read_text()


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(settings_of(tmp_path))


def test_what_serving_needs_is_known_here() -> None:
    have = installed()
    assert have["qdrant-client"] == version("qdrant-client")
    assert list(out_of_range("slipstream", "serve", have)) == []


def test_what_is_missing_or_too_old_is_named() -> None:
    have = installed() | {"onnxruntime": "1.2", "numpy": "2.3.1"}
    del have["uvicorn"]
    said = list(out_of_range("slipstream", "serve", have))
    assert "uvicorn is not installed" in said
    assert any(line.startswith("onnxruntime 1.2 is not") for line in said)
    assert any(line.startswith("numpy 2.3.1 is not <2") for line in said)


def test_the_build_extra_is_not_demanded_of_a_server() -> None:
    have = installed()
    for name in ("torch", "nncf", "mlflow"):
        have.pop(name, None)
    assert list(out_of_range("slipstream", "serve", have)) == []


def test_what_a_library_needs_itself_is_missed_too() -> None:
    have = installed() | {"anyio": "0.1"}
    del have["h11"]
    said = list(out_of_range("slipstream", "serve", have))
    assert any(line.startswith("h11 is not installed (for ") for line in said)
    assert any(line.startswith("anyio 0.1 is not ") for line in said)


def test_a_tree_that_was_never_installed() -> None:
    with pytest.raises(NotExamined, match="never-installed"):
        list(out_of_range("never-installed", "serve", {}))


def test_the_lock_is_read_with_normalized_names() -> None:
    assert read_lock("# a comment\nJinja2==3.1.6\nruamel_yaml==1.0\nnumpy\n") == {
        "jinja2": "3.1.6",
        "ruamel-yaml": "1.0",
    }
    assert read_lock(LOCK)["torch"] == "2.13.0"


def test_a_version_for_this_hardware_is_the_locked_one(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed", lambda: installed() | {"torch": "2.13.0+cu130"})
    assert "torch" not in libraries(subject).evidence


def test_another_version_than_the_tested_one_is_a_warning(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed", lambda: installed() | {"httpx": "0.99"})
    found = libraries(subject)
    assert found.state == "warning"
    assert f"httpx 0.99 (tested: {read_lock(LOCK)['httpx']})" in found.evidence
    assert "pip install -c" in found.remedy


def test_a_missing_library_is_a_problem(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "installed", lambda: {name: one for name, one in installed().items() if name != "psutil"}
    )
    found = libraries(subject)
    assert found.state == "problem"
    assert found.evidence == "psutil is not installed"


def test_an_installation_without_the_lock(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK", "no-such-lock.txt")
    with pytest.raises(NotExamined, match="no-such-lock"):
        libraries(subject)
