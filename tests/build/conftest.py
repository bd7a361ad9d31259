"""What tests of the build share: a recipe whose models are real and tiny, and a bundle of a few bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slipstream.build.bundle import assemble, manifest_of
from slipstream.build.stages import Outputs, StageRecord
from slipstream.ensemble import bundle as bundle_module
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import Manifest
from tests.build.bundles import ADAPTER, BASE, EMBEDDER, RECIPE, outputs_in, silent
from tests.tiny_bert import write_tiny_encoder
from tests.tiny_llama import write_tiny_checkpoint

TinyRecipe = Callable[..., str]


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> TinyRecipe:
    """Gives the text of a recipe: dotted keys (with ``__``) replace its values."""
    home = tmp_path_factory.mktemp("models")
    write_tiny_checkpoint(home / "llama")
    write_tiny_encoder(home / "bert")
    sources = home / "sources"
    sources.mkdir()
    for module in Path(bundle_module.__file__).parent.glob("*.py"):
        shutil.copy(module, sources)

    def text(**changed: object) -> str:
        fields: dict[str, object] = {
            "channel": "test",
            "version": "1.0",
            "base_model": str(home / "llama"),
            "adapter": None,
            "quantization": {"method": "awq", "group_size": 32},
            "calibration": {"sources": [str(sources)], "sequences": 2, "tokens": 256},
            "embedder": {"model": str(home / "bert"), "minimum_cosine": 0.9, "chunks": 20},
            "evaluation": {"golden": None, "code": ["pkg:click"], "tokens": 512, "window": 128},
        }
        for place, value in changed.items():
            section, _, key = place.partition("__")
            if key:
                fields[section] = {**dict(fields.get(section, {})), key: value}  # type: ignore[call-overload]
            else:
                fields[section] = value
        return yaml.safe_dump(fields)

    return text


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, StageRecord]:
    return outputs_in(tmp_path / "stages")


@pytest.fixture
def manifest(outputs: Outputs) -> Manifest:
    return manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, outputs)


@pytest.fixture
def bundle(tmp_path: Path, manifest: Manifest, outputs: Outputs) -> Bundle:
    return assemble(manifest, outputs, tmp_path / "bundles", silent)[0]
