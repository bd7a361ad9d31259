"""`slipstream register`: the same bytes once, an alias moved at will, nothing damaged let in."""

import json
import shutil
from pathlib import Path

import pytest

from slipstream.build.checkpoint import load_checkpoint
from slipstream.build.references import resolve_model
from slipstream.build.training.train import TrainOptions, attach_lora, save_adapter
from tests.conftest import invoke, slipstream
from tests.tiny_llama import write_tiny_checkpoint


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    base = resolve_model(str(write_tiny_checkpoint(folder / "base")), folder)
    model, _ = load_checkpoint(base)
    save_adapter(attach_lora(model, TrainOptions(rank=2)), base, folder / "adapter")
    return folder / "adapter"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def register(adapter: Path, home: Path, *args: str) -> dict[str, str]:
    done = invoke("register", str(adapter), "--name", "assistant", "--json", *args, home=home)
    assert done.exit_code == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_a_truncated_adapter_is_refused_with_a_remedy(adapter: Path, home: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    weights = copy / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    done = slipstream("register", str(copy), "--json", home=home)
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert done.returncode == 2
    assert error["type"] == "WeightsDamaged"
    assert error["remedy"]


def test_a_folder_that_is_no_adapter_is_refused(home: Path, tmp_path: Path) -> None:
    done = invoke("register", str(tmp_path), home=home)
    assert done.exit_code == 2
    assert "adapter_config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_bytes_are_one_version_and_the_alias_moves(adapter: Path, home: Path, tmp_path: Path) -> None:
    first = register(adapter, home, "--alias", "production")
    assert first["version"] == "1"
    assert register(adapter, home, "--alias", "staging")["version"] == "1"

    changed = shutil.copytree(adapter, tmp_path / "changed")
    config = changed / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 16', '"lora_alpha": 32'))
    second = register(changed, home, "--alias", "production")
    assert second["version"] == "2"
    assert second["sha256"] != first["sha256"]
    assert register(adapter, home, "--alias", "production")["version"] == "1"


def test_nothing_is_written_beside_the_home(adapter: Path, home: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    register(adapter, home)
    assert list(tmp_path.iterdir()) == []
