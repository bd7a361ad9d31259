"""References: what names no model, what is no acceptable one, and what was fetched once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.build import downloads
from slipstream.build.calibration import NothingToCalibrateOn, source_chunks
from slipstream.build.checkpoint import CheckpointUnusable, load_checkpoint, load_tokenizer
from slipstream.build.downloads import ModelNotFound
from slipstream.build.references import resolve_model
from slipstream.build.weights import PickleRefused, WeightsDamaged
from slipstream.engines.protocols import Progress
from tests.tiny_llama import write_tiny_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "reference",
    ["", "/nowhere/model", "a\0b", "~nosuchuser/model", "x" * 5000, "pypi:", "pypi:a b", "pypi:../x", "hf:one",
     "hf:a/b@", "hf:../../x/y"],
    ids=lambda reference: repr(reference[:20]),
)  # fmt: skip
def test_what_names_no_model_is_told(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ModelNotFound) as told:
        resolve_model(reference, tmp_path)
    assert told.value.remedy
    assert len(told.value.message) < 300


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="holds no weights"):
        resolve_model(str(tmp_path), tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(PickleRefused):
        resolve_model(str(tmp_path), tmp_path)


def test_a_gguf_file_has_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"text")
    with pytest.raises(ModelNotFound, match="is no GGUF file"):
        resolve_model(str(file), tmp_path)
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(PickleRefused):
        resolve_model(str(file), tmp_path)
    file.write_bytes(b"GGUF cut")
    with pytest.raises(CheckpointUnusable, match="truncated or no GGUF file"):
        load_tokenizer(resolve_model(str(file), tmp_path))


def test_a_cut_shard_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    shard = write_tiny_checkpoint(tmp_path / "llama") / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WeightsDamaged):
        resolve_model(str(tmp_path / "llama"), tmp_path)


def test_a_model_that_cannot_chat_or_load_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "llama")
    model = resolve_model(str(folder), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nosuch", "architectures": ["NoSuch"]}))
    with pytest.raises(CheckpointUnusable):
        load_checkpoint(model)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointUnusable, match="has no chat template"):
        load_checkpoint(model)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointUnusable, match="no readable tokenizer"):
        load_checkpoint(model)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointUnusable, match="no readable tokenizer"):
        load_checkpoint(model)


def test_too_little_code_to_calibrate_on_is_told(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    with pytest.raises(NothingToCalibrateOn, match="hold 1 chunks of code; 6 are needed"):
        source_chunks([str(tmp_path)])


# --- what was fetched from the hub -----------------------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The revisions that were asked for, of a hub that has one commit."""
    asked: list[str] = []

    def download(name: str, revision: str, home: Path, progress: Progress) -> str:
        asked.append(revision)
        if revision in {".", ".."}:
            raise ModelNotFound("no such revision", "check the name")
        if not (home / COMMIT).exists():
            write_tiny_checkpoint(home / COMMIT)
        return COMMIT

    monkeypatch.setattr(downloads, "_download_snapshot", download)
    return asked


def test_a_revision_is_asked_for_once_and_a_commit_never_again(tmp_path: Path, fetched: list[str]) -> None:
    first = resolve_model("hf:somebody/tiny", tmp_path)
    assert first.reference == f"hf:somebody/tiny@{COMMIT}"
    assert resolve_model("hf:somebody/tiny", tmp_path) == first
    assert resolve_model(first.reference, tmp_path).sha256 == first.sha256
    assert fetched == ["main"]


@pytest.mark.parametrize("noted", [b"", b"..", b"revisions", b"\xff\xfe", COMMIT[:-1].encode()])
def test_a_note_that_names_no_commit_is_asked_for_again(tmp_path: Path, fetched: list[str], noted: bytes) -> None:
    resolved = resolve_model("hf:somebody/tiny", tmp_path)
    note = tmp_path / "models" / "hf" / "somebody--tiny" / "revisions" / "main"
    note.write_bytes(noted)
    assert resolve_model("hf:somebody/tiny", tmp_path) == resolved
    assert fetched == ["main", "main"]
    assert note.read_text() == COMMIT + "\n"
    assert [path.name for path in note.parent.iterdir()] == ["main"]


@pytest.mark.parametrize("revision", ["..", "."])
def test_a_revision_is_never_a_folder_of_the_cache(tmp_path: Path, fetched: list[str], revision: str) -> None:
    resolve_model("hf:somebody/tiny", tmp_path)
    with pytest.raises(ModelNotFound, match="no such revision"):
        resolve_model(f"hf:somebody/tiny@{revision}", tmp_path)
    assert fetched == ["main", revision]
