"""How a peer is started: as its users would, whatever this process was told."""

from pathlib import Path

import pytest

from slipstream.loadtest.peers.serving import LlamaServer, PeerNotReady


def test_the_peer_waits_as_it_likes_whatever_the_tests_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "PASSIVE")
    monkeypatch.setenv("KEPT", "as it was")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nenv\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(PeerNotReady, match="does not get ready") as failed:
        LlamaServer(program, tmp_path / "any.gguf", tmp_path / "log", threads=2, slots=1, context_tokens=128)
    assert "KEPT=as it was" in str(failed.value)
    assert "PASSIVE" not in str(failed.value)
