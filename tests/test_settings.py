"""Settings come from the environment, and a wrong one is told by its name."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from slipstream.cli import main
from slipstream.settings import SettingInvalid, Settings


@pytest.mark.parametrize(("variable", "value"), [("SLIPSTREAM_PORT", "abc"), ("SLIPSTREAM_TRITON_GRPC_PORT", "70000")])
def test_a_wrong_value_names_its_variable(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingInvalid, match=variable):
        Settings()
    ended = CliRunner().invoke(main, ["bundles"])
    assert ended.exit_code == 2
    assert variable in ended.stderr


def test_the_names_of_qdrant_and_mlflow_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_URL", "http://127.0.0.1:6333")
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    settings = Settings()
    assert (settings.qdrant_url, settings.registry_uri) == ("http://127.0.0.1:6333", "http://127.0.0.1:5000")
    assert "secret" not in repr(settings)


def test_state_lives_below_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folders = (settings.bundles_dir, settings.cache_dir, settings.index_dir, settings.repository_dir)
    assert all(folder.parent == tmp_path.resolve() for folder in folders)


def test_a_home_that_cannot_be_a_folder_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", Path("~nobody-of-that-name/x"), Path("x" * 5000)):
        with pytest.raises(SettingInvalid, match="SLIPSTREAM_HOME"):
            _ = Settings(home=home).bundles_dir


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QDRANT_URL", "SLIPSTREAM_PORT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
    settings = Settings()
    assert (settings.qdrant_url, settings.port, settings.mlflow_uri) == (None, 8080, None)


def test_a_demanded_signature_needs_the_key_that_it_is_checked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_REQUIRE_SIGNATURE", "true")
    with pytest.raises(SettingInvalid, match="SLIPSTREAM_REQUIRE_SIGNATURE") as refused:
        Settings()
    assert "SLIPSTREAM_VERIFY_KEY" in refused.value.remedy
    monkeypatch.setenv("SLIPSTREAM_VERIFY_KEY", "/etc/slipstream/release.pub")
    assert Settings().require_signature


def test_the_password_of_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_KEY_PASSWORD", "hunter2")
    assert "hunter2" not in repr(Settings())
