"""Source that brings a grammar down, or keeps it for ever, costs its own symbols and nothing else."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.ensemble.retrieval import chunk_process
from slipstream.ensemble.retrieval.chunk_process import ChunkingUnavailable, ChunkProcess
from slipstream.ensemble.retrieval.chunk_worker import READY, read_frame, write_frame
from slipstream.ensemble.retrieval.chunker import cut_file
from slipstream.ensemble.retrieval.edge import EdgeStore
from tests.ensemble.retrieval.indexing import Recorder, function, run, write
from tests.ensemble.retrieval.pieces import assert_faithful

CRASHING = 'R"' + "(" * 100_000  # Go's grammar 0.25.0 reads beyond its stack
ENDLESS = "#if X\n" * 100_000


@pytest.fixture
def process() -> Iterator[ChunkProcess]:
    with ChunkProcess() as process:
        yield process


def test_a_grammar_that_crashes_leaves_windows_and_the_next_file_its_symbols(process: ChunkProcess) -> None:
    cut = process.cut("a.go", CRASHING.encode(), "repo")
    assert cut.caveats == ["parse_crash"]
    assert_faithful(cut.chunks, CRASHING)
    after = process.cut("b.go", b"package b\n\nfunc Next() {}\n", "repo")
    assert ("Next" in [chunk.symbol for chunk in after.chunks], after.caveats) == (True, [])


def test_the_process_gives_back_the_chunks_that_cutting_here_gives(process: ChunkProcess) -> None:
    source = b"def f():\n    return compute(1)\n\n\ndef g():\n    return compute(2)\n"
    assert process.cut("a.py", source, "repo") == cut_file("a.py", source, "repo")


def test_what_takes_too_long_is_ended_and_cut_into_windows(
    process: ChunkProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.cut("a.py", b"x = 1\n", "repo")
    monkeypatch.setattr(chunk_process, "CUT_S", 0.2)
    monkeypatch.setattr(chunk_process, "CUT_S_PER_MB", 0.0)
    started = time.process_time()
    cut = process.cut("a.rs", ENDLESS.encode(), "repo")
    assert time.process_time() - started < 5
    assert cut.caveats == ["parse_timeout"]
    assert_faithful(cut.chunks, ENDLESS)


def test_a_process_that_was_killed_between_two_files_is_started_again(process: ChunkProcess) -> None:
    data = function("survivor").encode()
    first = process.cut("a.py", data, "repo")
    assert process._process is not None
    process._process.send_signal(signal.SIGKILL)
    process._process.wait()
    assert process.cut("a.py", data, "repo") == first == cut_file("a.py", data, "repo")


def test_a_process_that_does_not_start_is_told(process: ChunkProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_process, "_interpreter", lambda: "/bin/false")
    with pytest.raises(ChunkingUnavailable, match="exit code 1") as caught:
        process.cut("a.py", b"x = 1\n", "repo")
    assert caught.value.remedy


def test_the_process_ends_with_its_block() -> None:
    with ChunkProcess() as process:
        process.cut("a.py", b"x = 1\n", "repo")
        child = process._process
    assert child is not None
    assert child.returncode == 0


def test_a_process_whose_parent_was_killed_does_not_go_on_for_ever() -> None:
    script = "from slipstream.ensemble.retrieval import chunk_worker as w; w.CPU_S = 1; w.main()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert read_frame(process.stdout) == (READY, b"")
        write_frame(process.stdin, b'["a.rs", "repo"]', ENDLESS.encode() * 10)
        assert process.wait(60) == -signal.SIGXCPU


def test_modules_in_the_folder_of_the_call_are_not_run(
    process: ChunkProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "json.py", "raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert process.cut("a.py", b"x = 1\n", "repo").caveats == []


def test_an_index_run_goes_on_and_counts_what_it_cut_without_syntax(embedder: Recorder, tmp_path: Path) -> None:
    write(tmp_path / "src" / "bad.go", "// What looks like source.\n" * 2_000 + CRASHING)
    write(tmp_path / "src" / "fine.py", function("fine"))
    (tmp_path / "src" / "old.py").write_bytes("# Скидка на корзину покупателя\n".encode("cp1251"))
    report = run(tmp_path / "src", store=EdgeStore(tmp_path / "index"), embedder=embedder)
    assert report.files == 3
    assert report.caveats == {"parse_crash": 1, "guessed_encoding": 1}
    assert report.skipped == {}
    assert any("Скидка" in text for text in embedder.texts)
