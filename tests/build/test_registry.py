"""The registry: what a name may be, what a reference finds, and an MLflow that does not work."""

import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.build.registry import (
    AdapterChanged,
    NameInvalid,
    NoSuchAlias,
    NoSuchModel,
    NoSuchVersion,
    ReferenceMalformed,
    Registry,
    RegistryUnavailable,
)
from tests.build.lora import write_lora
from tests.conftest import slipstream


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with one version, promoted."""
    home = tmp_path_factory.mktemp("registry")
    made = Registry(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    made.register(write_lora(home / "lora"), "assistant", "production")
    return made


@pytest.mark.parametrize("name", ["", " ", "a/b", "a@b", "a:b", "..", "a\nb", "a\udcff", "x" * 257])
def test_a_name_that_no_reference_could_hold_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(NameInvalid, match="cannot be called") as refused:
        Registry(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}").register(write_lora(tmp_path / "lora"), name, None)
    assert "--name" in refused.value.remedy
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("alias", ["", "a b", "a.b", "a/b", "latest", "Latest", "v3", "x" * 256])
def test_an_alias_that_mlflow_would_refuse_after_the_upload_is_refused_before(alias: str, tmp_path: Path) -> None:
    with pytest.raises(NameInvalid) as refused:
        Registry(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}").register(write_lora(tmp_path / "lora"), "a", alias)
    assert "--alias" in refused.value.remedy
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("name", "alias"), [("code assistant", "latest-good"), ("it's", "v1a"), ("Помощник", "v")])
def test_whatever_is_let_in_can_be_named(registry: Registry, tmp_path: Path, name: str, alias: str) -> None:
    registered = registry.register(write_lora(tmp_path / "lora"), name, alias)
    for reference in (f"models:/{name}@{alias}", f"models:/{name}/{registered.version}"):
        assert registry.resolve(reference, tmp_path).sha256 == registered.sha256


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("assistant@production", ReferenceMalformed),
        ("models:/assistant", ReferenceMalformed),
        ("models:/@production", ReferenceMalformed),
        ("models:/nobody@production", NoSuchModel),
        ("models:/assistant@staging", NoSuchAlias),
        ("models:/assistant/7", NoSuchVersion),
    ],
)
def test_a_reference_to_nothing_says_what_is_missing(
    registry: Registry, tmp_path: Path, reference: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as missing:
        registry.resolve(reference, tmp_path)
    assert getattr(missing.value, "remedy", "")


def test_an_adapter_that_was_swapped_after_its_promotion_is_refused(registry: Registry, tmp_path: Path) -> None:
    registered = registry.register(write_lora(tmp_path / "one", seed=1), "swapped", "production")
    kept = registry.resolve("models:/swapped@production", tmp_path).path
    write_lora(kept, seed=2)
    with pytest.raises(AdapterChanged, match=registered.sha256[:12]):
        registry.resolve("models:/swapped@production", tmp_path)
    for file in kept.iterdir():
        file.unlink()
    kept.rmdir()
    with pytest.raises(AdapterChanged, match="are gone"):
        registry.resolve("models:/swapped@production", tmp_path)


# --- an MLflow that does not work ------------------------------------------------------------------------------------


@pytest.mark.parametrize("userinfo", ["user:hunter2", "user:hun/ter2", "user:hunter2@home", "hunter2", ":hunter2"])
def test_a_password_in_the_uri_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, userinfo: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnavailable) as failed:
        Registry(f"http://{userinfo}@127.0.0.1:1").resolve("models:/assistant@production", tmp_path)
    assert "MLflow at http://127.0.0.1:1 failed" in failed.value.message
    assert "ter2" not in failed.value.message


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://[bad", "check MLFLOW_TRACKING_URI"),
        ("sqlite:///{home}/cut.db", "is MLflow's and may be written to"),
        ("sqlite:////etc/passwd", "is MLflow's and may be written to"),
        ("sqlite:////dev/null/mlflow.db", "is MLflow's and may be written to"),
        ("mysql+nosuchdriver://host/db", "install the driver|check MLFLOW_TRACKING_URI"),
        ("postgresql://user:hunter2@127.0.0.1:1/db", "install the driver"),
    ],
)
def test_a_registry_that_is_none_is_told_with_a_remedy(
    registry: Registry, tmp_path: Path, uri: str, remedy: str
) -> None:
    whole = Path(registry.uri.removeprefix("sqlite:///")).read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    broken = Registry(uri.format(home=tmp_path))
    for ask in (
        lambda: broken.register(write_lora(tmp_path / "lora"), "assistant", None),
        lambda: broken.resolve("models:/nobody@production", tmp_path),
    ):
        with pytest.raises((RegistryUnavailable, NoSuchModel)) as failed:
            ask()
        if isinstance(failed.value, NoSuchModel):  # of a database that is not there, which a lookup does not make
            assert "/dev/null/" in uri
            continue
        assert "hunter2" not in failed.value.message
        assert any(part in failed.value.remedy for part in remedy.split("|"))


def test_two_that_register_first_at_once_both_succeed(tmp_path: Path) -> None:
    """Each in a process of its own: they make the tables of one database."""
    script = (
        "import sys; from pathlib import Path; from slipstream.build.registry import Registry\n"
        "print(Registry(sys.argv[1]).register(Path(sys.argv[2]), sys.argv[3], 'production').version)"
    )
    uri, lora = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}", write_lora(tmp_path / "lora")
    command = [sys.executable, "-c", script, uri, str(lora)]
    both = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for name in "ab"
    ]
    said = [process.communicate() for process in both]
    assert [out for out, _ in said] == ["1\n", "1\n"], said


def test_the_folder_of_a_user_who_does_not_exist_is_no_path(tmp_path: Path) -> None:
    done = slipstream("register", "~nosuchuser/lora", home=tmp_path)
    assert done.returncode == 2
    assert "~nosuchuser/lora" in done.stderr
    assert "Traceback" not in done.stderr
    assert "write the path from / on" in done.stderr
