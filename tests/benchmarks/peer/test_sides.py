"""How the peer is started: as its user would, whatever this process was told."""

from pathlib import Path

import pytest

from tests.benchmarks.peer.sides import Peer


def test_the_peer_waits_as_it_likes_whatever_the_tests_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "PASSIVE")
    monkeypatch.setenv("KEPT", "as it was")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nenv\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="does not get ready") as failed:
        Peer(program, tmp_path / "any.gguf", (), tmp_path / "log")
    assert "KEPT=as it was" in str(failed.value)
    assert "PASSIVE" not in str(failed.value)
