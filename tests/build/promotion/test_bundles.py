"""Bundles in the registry: once each, linked to adapter and run, not copied without need, and cheap to look up."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.build.bundle import assemble, manifest_of
from slipstream.build.mlflow_client import open_client
from slipstream.build.promotion import bundles
from slipstream.build.promotion.bundles import register_bundle
from slipstream.build.registry import RegisteredAdapter, Registry, RegistryUnavailable
from slipstream.ensemble.bundle import Bundle
from tests.build.bundles import BASE, EMBEDDER, RECIPE, outputs_in, silent
from tests.build.promotion.registries import MODEL, register


def bundle_of(adapter: RegisteredAdapter | None, folder: Path) -> Bundle:
    outputs = outputs_in(folder / "stages")
    return assemble(manifest_of(RECIPE, BASE, adapter, EMBEDDER, outputs), outputs, folder / "bundles", silent)[0]


@pytest.fixture
def bundle(registry: Registry, tmp_path: Path) -> Bundle:
    """With version 3 of the registry's adapter in it."""
    return bundle_of(registry.resolve(f"models:/{MODEL}/3", tmp_path), tmp_path)


def test_a_bundle_is_a_version_of_its_release_name_linked_to_adapter_and_run(
    registry: Registry, bundle: Bundle
) -> None:
    made = register_bundle(registry, bundle)
    assert (made.name, made.version, made.is_new) == ("production-v2.1-smollm2-135m-gptq-p1", "1", True)
    with open_client(registry.uri) as client:
        version, adapter = client.get_model_version(made.name, "1"), client.get_model_version(MODEL, "3")
    assert version.run_id == made.run_id == adapter.run_id
    assert version.tags["slipstream.bundle"] == bundle.manifest.id
    assert version.tags["slipstream.adapter"] == f"models:/{MODEL}/3"
    assert version.tags["slipstream.base_model"] == BASE.reference
    assert version.source == bundle.path.as_uri(), "nothing is copied where the folder can be read in place"


def test_the_same_bundle_is_registered_once_and_another_is_the_next_version(
    registry: Registry, bundle: Bundle, tmp_path: Path
) -> None:
    first = register_bundle(registry, bundle)
    again = register_bundle(registry, Bundle.open(bundle.path))
    assert (again.version, again.source, again.is_new) == (first.version, first.source, False)
    other = bundle_of(registry.resolve(f"models:/{MODEL}/4", tmp_path), tmp_path)
    assert (register_bundle(registry, other).version, register_bundle(registry, bundle).version) == ("2", "1")


def test_a_build_with_nothing_to_do_finds_it_without_importing_mlflow(registry: Registry, bundle: Bundle) -> None:
    register_bundle(registry, bundle)
    script = (
        "import sys; from pathlib import Path\n"
        "from slipstream.build.promotion.bundles import register_bundle\n"
        "from slipstream.build.registry import Registry\n"
        "from slipstream.ensemble.bundle import Bundle\n"
        "print(register_bundle(Registry(sys.argv[1]), Bundle.open(Path(sys.argv[2]))).is_new, 'mlflow' in sys.modules)"
    )
    command = [sys.executable, "-c", script, registry.uri, str(bundle.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False False\n"


def test_of_two_that_register_the_same_bundle_at_once_one_version_stays(
    registry: Registry, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = bundles._create

    def overtaken(*args: object) -> object:
        monkeypatch.setattr(bundles, "_create", create)
        register_bundle(registry, bundle)
        return create(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(bundles, "_create", overtaken)
    late = register_bundle(registry, bundle)
    assert (late.version, late.is_new) == ("1", False)
    with open_client(registry.uri) as client:
        assert len(client.search_model_versions(f"name='{bundle.manifest.release_name}'")) == 1


def test_a_bundle_without_an_adapter_or_of_a_run_that_is_gone_is_registered_all_the_same(
    registry: Registry, tmp_path: Path
) -> None:
    assert register_bundle(registry, bundle_of(None, tmp_path)).run_id == ""
    strange = RegisteredAdapter("elsewhere", "9", "f" * 32, tmp_path, "a" * 64, BASE.reference, BASE.sha256)
    assert register_bundle(registry, bundle_of(strange, tmp_path)).run_id == ""


def test_a_registry_that_is_not_there_yet_is_made(bundle: Bundle, tmp_path: Path) -> None:
    empty = Registry(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}")
    assert register_bundle(empty, bundle).version == "1"


def test_a_server_that_does_not_answer_is_told_without_its_password(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnavailable) as failed:
        register_bundle(Registry("http://ada:hunter2@127.0.0.1:1"), bundle)
    assert "hunter2" not in str(failed.value)


@pytest.mark.integration
def test_a_server_gets_the_files_and_others_can_fetch_them(mlflow_server: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_server)
    register(registry, tmp_path / "lora", 1, "fetched")
    bundle = bundle_of(registry.resolve("models:/fetched/1", tmp_path), tmp_path)
    made = register_bundle(registry, bundle)
    assert register_bundle(registry, bundle).is_new is False
    shutil.move(bundle.path, tmp_path / "away")
    with open_client(registry.uri) as client:
        from mlflow.artifacts import download_artifacts

        assert client.get_model_version(made.name, made.version).run_id == made.run_id
        fetched = download_artifacts(made.source, dst_path=str(tmp_path), tracking_uri=registry.uri)
    Bundle.open(Path(fetched)).verify()
    assert register_bundle(registry, bundle_of(None, tmp_path / "base")).run_id
