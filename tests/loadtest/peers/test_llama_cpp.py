"""What happens before minutes of compiling: nothing twice, and a missing compiler is told at once."""

import sys
from pathlib import Path

import pytest

from slipstream.loadtest.peers import llama_cpp
from slipstream.loadtest.peers.llama_cpp import PeerNotBuilt


def test_what_was_compiled_once_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    program = tmp_path / f"llama-cpp-python-{llama_cpp.VERSION}" / "llama-server"
    program.parent.mkdir()
    program.touch()
    assert llama_cpp.llama_server(tmp_path) == program


def test_without_a_compiler_nothing_is_downloaded_and_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(PeerNotBuilt, match="no cmake and no ninja") as raised:
        llama_cpp.llama_server(tmp_path / "cache")
    assert "pip install cmake ninja" in raised.value.remedy
    assert not (tmp_path / "cache").exists()


def test_a_failing_step_leaves_nothing_that_looks_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "_tools", dict)

    def refuse(aside: Path) -> Path:
        raise PeerNotBuilt("pip download failed", "")

    monkeypatch.setattr(llama_cpp, "_download", refuse)
    with pytest.raises(PeerNotBuilt):
        llama_cpp.llama_server(tmp_path)
    assert list(tmp_path.iterdir()) == []
