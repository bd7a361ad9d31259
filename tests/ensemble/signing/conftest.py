"""A bundle of a few bytes, the keys of who signs it, and those of somebody else."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from slipstream.build.bundle import assemble, manifest_of
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.signing.keys import PrivateKey, PublicKey, private_key, write_pair
from tests.build.bundles import ADAPTER, BASE, EMBEDDER, RECIPE, outputs_in, silent


@dataclass(frozen=True)
class Pair:
    private: PrivateKey
    public: PublicKey


def pair(path: Path) -> Pair:
    public = write_pair(path, None)
    return Pair(private_key(path, lambda: None), public)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("keys") / "release.pem")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("keys") / "stranger.pem")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    outputs = outputs_in(tmp_path / "stages")
    manifest = manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, outputs)
    bundle, _ = assemble(manifest, outputs, tmp_path / "bundles", silent)
    (bundle.path / "evaluation.json").write_text('{"perplexity": 12.8}')
    return bundle
