"""What the settings demand of a signature, in the server and again in every model inside Triton."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.signing import trust
from slipstream.ensemble.signing.keys import KeyUnusable
from slipstream.ensemble.signing.signature import SignatureRefused, Unsigned, contents, sign
from slipstream.ensemble.signing.trust import SEAL, admit, state_of
from slipstream.ensemble.triton.admission import admitted_bundle
from slipstream.ensemble.triton.process import Installation, environment
from slipstream.settings import Settings
from tests.build.bundles import flip
from tests.ensemble.signing.conftest import Pair


@pytest.fixture
def checking(release: Pair, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, verify_key=release.public.path)


@pytest.fixture
def demanding(release: Pair, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, verify_key=release.public.path, require_signature=True)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the bundle had been written long ago."""
    monkeypatch.setattr(trust, "_SETTLED_NS", -(10**18))


def count_checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    checked: list[Path] = []
    check = trust.check

    def counted(folder: Path, *rest: Any) -> None:
        checked.append(folder)
        check(folder, *rest)

    monkeypatch.setattr(trust, "check", counted)
    return checked


def test_an_unsigned_bundle_is_refused_where_a_signature_is_demanded(bundle: Bundle, demanding: Settings) -> None:
    with pytest.raises(Unsigned) as refused:
        admit(bundle.path, demanding)
    assert "slipstream sign" in refused.value.remedy


def test_an_unsigned_bundle_is_warned_of_where_none_is_demanded(bundle: Bundle, checking: Settings) -> None:
    with capture_logs() as logs:
        admit(bundle.path, checking)
    assert [(log["event"], log["log_level"]) for log in logs] == [("bundle.unsigned", "warning")]


def test_a_wrong_signature_is_refused_even_where_none_is_demanded(
    bundle: Bundle, checking: Settings, stranger: Pair
) -> None:
    sign(bundle, stranger.private)
    with pytest.raises(SignatureRefused):
        admit(bundle.path, checking)


def test_without_a_key_nothing_is_checked(bundle: Bundle, stranger: Pair, tmp_path: Path) -> None:
    sign(bundle, stranger.private)
    with capture_logs() as logs:
        assert admit(bundle.path, Settings(home=tmp_path)) == ""
    assert logs == []


@pytest.mark.usefixtures("settled")
def test_what_the_server_checked_is_not_read_again(
    bundle: Bundle, demanding: Settings, release: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(bundle, release.private)
    checked = count_checks(monkeypatch)
    seal = admit(bundle.path, demanding)
    assert seal
    assert admit(bundle.path, demanding, seal) == seal
    assert checked == [bundle.path]


@pytest.mark.usefixtures("settled")
def test_bytes_that_changed_under_the_old_size_and_date_break_the_seal(
    bundle: Bundle, demanding: Settings, release: Pair
) -> None:
    sign(bundle, release.private)
    seal = admit(bundle.path, demanding)
    weights = bundle.path / "engine/openvino_model.bin"
    before = weights.stat()
    flip(weights)
    weights.chmod(before.st_mode)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SignatureRefused, match=r"engine/openvino_model\.bin was changed"):
        admit(bundle.path, demanding, seal)


@pytest.mark.usefixtures("settled")
def test_a_seal_does_not_pass_for_another_key_folder_or_file(
    bundle: Bundle, demanding: Settings, release: Pair, stranger: Pair, tmp_path: Path
) -> None:
    sign(bundle, release.private)
    seal = admit(bundle.path, demanding)
    other = Settings(home=tmp_path, verify_key=stranger.public.path, require_signature=True)
    with pytest.raises(SignatureRefused, match="trusted is"):
        admit(bundle.path, other, seal)
    copied = Path(shutil.copytree(bundle.path, tmp_path / "copied"))
    (copied / "bundle.sig").unlink()
    with pytest.raises(Unsigned):
        admit(copied, demanding, seal)
    (bundle.path / "bundle.sig").unlink()
    with pytest.raises(Unsigned):
        admit(bundle.path, demanding, seal)


def test_a_bundle_that_was_written_this_moment_gets_no_seal(
    bundle: Bundle, demanding: Settings, release: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(bundle, release.private)
    monkeypatch.setattr(trust, "_SETTLED_NS", 10**18)
    assert admit(bundle.path, demanding) == ""


def test_a_bundle_that_changes_while_it_is_checked_is_refused(
    bundle: Bundle, demanding: Settings, release: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(bundle, release.private)
    check = trust.check

    def interrupted(folder: Path, *rest: Any) -> None:
        check(folder, *rest)
        flip(folder / "engine/openvino_model.bin")

    monkeypatch.setattr(trust, "check", interrupted)
    with pytest.raises(SignatureRefused, match="changed while it was checked"):
        admit(bundle.path, demanding)


def test_a_key_that_is_not_there_refuses_every_bundle(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"nowhere\.pub"):
        admit(bundle.path, Settings(home=tmp_path, verify_key=tmp_path / "nowhere.pub"))


@pytest.mark.parametrize("model", ["embedder_model", "retriever_model", "generator_model"])
def test_every_model_inside_triton_loads_only_what_is_admitted(
    bundle: Bundle, demanding: Settings, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """A Triton that was started by hand has no server before it that checked."""
    from importlib import import_module
    from json import dumps

    module = import_module(f"slipstream.ensemble.triton.{model}")
    (loaded,) = (
        kind for name, kind in vars(module).items() if name in ("EmbedderModel", "RetrieverModel", "GeneratorModel")
    )
    monkeypatch.setattr(module, "exit_with_parent", lambda: None)
    monkeypatch.setenv("SLIPSTREAM_VERIFY_KEY", str(demanding.verify_key))
    monkeypatch.setenv("SLIPSTREAM_REQUIRE_SIGNATURE", "1")
    parameters = {"bundle": {"string_value": str(bundle.path)}}
    with pytest.raises(Unsigned, match="try: slipstream sign"):  # Triton tells the message and nothing else
        loaded().initialize({"model_config": dumps({"parameters": parameters})})


@pytest.mark.usefixtures("settled")
def test_triton_is_handed_the_key_the_demand_and_the_seal_but_no_password(
    bundle: Bundle, release: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(bundle, release.private)
    monkeypatch.chdir(release.public.path.parent)
    monkeypatch.setenv("SLIPSTREAM_KEY_PASSWORD", "secret")
    monkeypatch.setenv(SEAL, "of somebody else")
    settings = Settings(home=tmp_path, verify_key=Path(release.public.path.name), require_signature=True)
    nowhere = Installation(*[Path("/nowhere")] * 4)
    seal = admit(bundle.path, settings)
    handed = environment(nowhere, settings, seal)
    assert "SLIPSTREAM_KEY_PASSWORD" not in handed
    assert environment(nowhere, settings)[SEAL] == ""
    monkeypatch.chdir("/")
    for name in (SEAL, "SLIPSTREAM_VERIFY_KEY", "SLIPSTREAM_REQUIRE_SIGNATURE"):
        monkeypatch.setenv(name, handed[name])
    checked = count_checks(monkeypatch)
    model_config = f'{{"parameters": {{"bundle": {{"string_value": "{bundle.path}"}}}}}}'
    assert admitted_bundle({"model_config": model_config}).manifest == bundle.manifest
    assert checked == []


def test_the_state_is_told_with_the_key_without_refusing(
    bundle: Bundle, checking: Settings, demanding: Settings, release: Pair, stranger: Pair, tmp_path: Path
) -> None:
    def state(settings: Settings) -> trust.Signed:
        return state_of(bundle.path, contents(bundle.path), settings)

    assert (state(checking).state, state(checking).problem) == ("unsigned", None)
    assert "is not signed" in str(state(demanding).problem)
    sign(bundle, stranger.private)
    assert (state(checking).state, state(checking).key) == ("wrong", stranger.public.fingerprint)
    unchecked = state(Settings(home=tmp_path))
    assert (unchecked.state, unchecked.key, unchecked.problem) == ("unchecked", stranger.public.fingerprint, None)
    assert "it says" in str(unchecked)
    sign(bundle, release.private)
    assert (state(checking).state, state(checking).key) == ("trusted", release.public.fingerprint)
    assert release.public.fingerprint in str(state(checking))
    (bundle.path / "bundle.sig").write_text("nonsense")
    assert state(Settings(home=tmp_path)).state == "wrong"


def test_who_loads_outside_of_a_server_is_given_what_is_trusted_and_nothing_else(
    bundle: Bundle, release: Pair, demanding: Settings
) -> None:
    with pytest.raises(Unsigned):
        trust.trusted_bundle(demanding, bundle.manifest.id)
    sign(bundle, release.private)
    assert trust.trusted_bundle(demanding, bundle.manifest.id).path == bundle.path
    flip(bundle.path / "embedder/model.onnx")
    with pytest.raises(SignatureRefused):
        trust.trusted_bundle(demanding, bundle.manifest.id)
