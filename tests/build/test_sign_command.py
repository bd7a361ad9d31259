"""`sign` makes keys and signatures, `verify` says what they are worth, `serve` refuses before it starts anything."""

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main
from slipstream.ensemble import inventory
from slipstream.ensemble.bundle import Bundle
from tests.build.bundles import flip


def run(tmp_path: Path, *args: str, **env: str) -> Result:
    return CliRunner().invoke(main, args, env={"SLIPSTREAM_HOME": str(tmp_path), **env})


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert run(tmp_path, "sign", "--new-key", str(tmp_path / "release.pem")).exit_code == 0
    return tmp_path / "release.pem"


@pytest.mark.parametrize(
    "arguments",
    [[], ["BUNDLE"], ["--key", "a.pem", "--new-key", "b.pem"], ["BUNDLE", "--new-key", "b.pem"]],
    ids=["nothing", "no key", "both", "a bundle for a new key"],
)
def test_exactly_one_thing_is_asked_for(tmp_path: Path, arguments: list[str]) -> None:
    refused = run(tmp_path, "sign", *arguments)
    assert refused.exit_code == 2
    assert "--key" in refused.stderr


def test_a_key_that_is_no_key_is_told_with_the_next_step(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "key.pem").write_text("not a key")
    refused = run(tmp_path, "sign", str(bundle.path), "--key", str(tmp_path / "key.pem"))
    assert refused.exit_code == 2
    assert "slipstream sign --new-key" in refused.stderr


def test_a_key_that_others_can_read_is_warned_of_beside_the_document(tmp_path: Path, bundle: Bundle, key: Path) -> None:
    assert run(tmp_path, "sign", str(bundle.path), "--key", str(key)).stderr == ""
    for mode in (0o640, 0o604):
        key.chmod(mode)
        done = run(tmp_path, "sign", str(bundle.path), "--key", str(key), "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["files"]
        assert f"others may read {key}: chmod 600" in done.stderr


def test_a_password_makes_up_for_that(tmp_path: Path, bundle: Bundle) -> None:
    key, secret = tmp_path / "key.pem", {"SLIPSTREAM_KEY_PASSWORD": "correct horse"}
    run(tmp_path, "sign", "--new-key", str(key), **secret)
    key.chmod(0o644)
    assert run(tmp_path, "sign", str(bundle.path), "--key", str(key), **secret).stderr == ""


def test_verify_writes_a_document_whatever_a_file_is_called(tmp_path: Path, bundle: Bundle) -> None:
    (bundle.path / os.fsdecode(b"bad\xff\x1b[31m")).touch()
    command = [sys.executable, "-m", "slipstream.cli", "verify", str(bundle.path), "--json"]
    strict = {"SLIPSTREAM_HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8:strict", "PYTHONUTF8": "1"}
    ran = subprocess.run(command, env=os.environ | strict, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "\\udcff" in json.loads(ran.stdout)["problems"][0]
    assert json.loads(ran.stderr)["error"]["type"] == "BundleRefused"


def test_a_damaged_bundle_is_not_signed(tmp_path: Path, bundle: Bundle, key: Path) -> None:
    flip(bundle.path / "engine/openvino_model.bin")
    refused = run(tmp_path, "sign", str(bundle.path), "--key", str(key))
    assert refused.exit_code == 1
    assert "engine/openvino_model.bin was changed" in refused.stderr
    assert not (bundle.path / "bundle.sig").exists()


def test_a_new_key_signs_and_verify_names_it(tmp_path: Path, bundle: Bundle, key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signed = json.loads(run(tmp_path, "sign", bundle.manifest.id, "--key", str(key), "--json").stdout)
    assert signed["files"] == len(bundle.manifest.files) + 1  # and the manifest
    public = str(key.with_suffix(".pub"))
    told = run(tmp_path, "verify", bundle.manifest.id, SLIPSTREAM_VERIFY_KEY=public)
    assert told.exit_code == 0
    assert f"signed with the trusted key {signed['key']}" in told.stdout
    document = json.loads(run(tmp_path, "verify", bundle.manifest.id, "--json").stdout)
    assert document["signature"] == {"state": "unchecked", "key": signed["key"]}


def test_verify_reads_every_byte_once(
    tmp_path: Path, bundle: Bundle, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "sign", bundle.manifest.id, "--key", str(key))
    read: list[Path] = []
    hashed = inventory._sha256
    monkeypatch.setattr(inventory, "_sha256", lambda path: (read.append(path), hashed(path))[1])
    done = run(tmp_path, "verify", bundle.manifest.id, SLIPSTREAM_VERIFY_KEY=str(key.with_suffix(".pub")))
    assert done.exit_code == 0
    assert len(read) == len(set(read)) == len([path for path in bundle.path.rglob("*") if path.is_file()]) - 1


def test_verify_tells_of_an_unsigned_bundle_and_refuses_it_where_that_is_demanded(
    tmp_path: Path, bundle: Bundle, key: Path
) -> None:
    told = run(tmp_path, "verify", bundle.manifest.id)
    assert (told.exit_code, "not signed" in told.stdout) == (0, True)
    demand = {"SLIPSTREAM_VERIFY_KEY": str(key.with_suffix(".pub")), "SLIPSTREAM_REQUIRE_SIGNATURE": "true"}
    refused = run(tmp_path, "verify", bundle.manifest.id, **demand)
    assert refused.exit_code == 1
    assert "slipstream sign" in refused.stderr


def test_verify_refuses_a_wrong_signature_with_all_else_that_is_wrong(
    tmp_path: Path, bundle: Bundle, key: Path
) -> None:
    run(tmp_path, "sign", bundle.manifest.id, "--key", str(key))
    flip(bundle.path / "engine/openvino_model.bin")
    key_of = {"SLIPSTREAM_VERIFY_KEY": str(key.with_suffix(".pub"))}
    refused = run(tmp_path, "verify", bundle.manifest.id, "--json", **key_of)
    assert refused.exit_code == 1
    document = json.loads(refused.stdout)
    assert document["signature"]["state"] == "wrong"
    assert len(document["problems"]) == 2


@pytest.mark.parametrize("damage", ["unsigned", "tampered", "other key"])
def test_serve_refuses_what_the_settings_do_not_trust(tmp_path: Path, bundle: Bundle, key: Path, damage: str) -> None:
    if damage != "unsigned":
        signer = key
        if damage == "other key":
            signer = tmp_path / "stranger.pem"
            run(tmp_path, "sign", "--new-key", str(signer))
        run(tmp_path, "sign", str(bundle.path), "--key", str(signer))
    if damage == "tampered":
        flip(bundle.path / "engine/openvino_model.bin")
    demand = {"SLIPSTREAM_VERIFY_KEY": str(key.with_suffix(".pub")), "SLIPSTREAM_REQUIRE_SIGNATURE": "true"}
    refused = run(tmp_path, "serve", "--bundle", str(bundle.path), "--port", "0", **demand)
    assert refused.exit_code == 1
    told = {"unsigned": "is not signed", "tampered": "openvino_model.bin was changed", "other key": "and trusted is"}
    assert told[damage] in refused.output
    assert "slipstream sign" in refused.output or "SLIPSTREAM_VERIFY_KEY" in refused.output


def test_a_password_comes_from_the_environment(tmp_path: Path, bundle: Bundle) -> None:
    key, secret = str(tmp_path / "key.pem"), {"SLIPSTREAM_KEY_PASSWORD": "correct horse"}
    assert run(tmp_path, "sign", "--new-key", key, **secret).exit_code == 0
    refused = run(tmp_path, "sign", str(bundle.path), "--key", key)
    assert refused.exit_code == 2
    assert "SLIPSTREAM_KEY_PASSWORD" in refused.stderr
    done = run(tmp_path, "sign", str(bundle.path), "--key", key, **secret)
    assert done.exit_code == 0
    assert "correct horse" not in done.output


def test_at_a_terminal_the_password_is_asked_for_and_not_shown(tmp_path: Path, bundle: Bundle) -> None:
    key = str(tmp_path / "key.pem")
    run(tmp_path, "sign", "--new-key", key, SLIPSTREAM_KEY_PASSWORD="correct horse")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "slipstream.cli", "sign", str(bundle.path), "--key", key],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"SLIPSTREAM_HOME": str(tmp_path)},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"Password of" not in shown:
        shown += os.read(ours, 1024)
    os.write(ours, b"correct horse\n")
    assert child.wait(60) == 0
    shown += os.read(ours, 4096)
    os.close(ours)
    assert b"correct horse" not in shown
    assert b"signed " in shown
