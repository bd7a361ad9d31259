"""A signature holds for exactly the files that were signed, and for the key that made it."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_signing import hashing, signing, verifying

from slipstream.ensemble import inventory
from slipstream.ensemble.bundle import Bundle, BundleCorrupt
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.signing import signature
from slipstream.ensemble.signing.signature import SignatureRefused, Unsigned, check, claimed_key, contents, sign
from tests.build.bundles import flip
from tests.ensemble.signing.conftest import Pair


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    """Change fields of the signature file."""
    place = bundle.path / "bundle.sig"
    document = json.loads(place.read_text())
    change(document)
    place.write_text(json.dumps(document))


def rewrite_statement(document: dict[str, Any]) -> None:
    """Leave the engine out of what was signed, and keep the signature over it."""
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    resources = statement["predicate"]["resources"]
    statement["predicate"]["resources"] = [one for one in resources if not one["name"].startswith("engine/")]
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: flip(path / "engine/openvino_model.bin"), "engine/openvino_model.bin was changed"),
        (lambda path: flip(path / "evaluation.json"), "evaluation.json was changed"),
        (lambda path: flip(path / "bundle.json"), "bundle.json was changed"),
        (lambda path: (path / "embedder/model.onnx").unlink(), "embedder/model.onnx is missing"),
        (lambda path: (path / "engine/extra.so").touch(), "engine/extra.so is not covered by the signature"),
        (lambda path: (path / ".gitignore").touch(), ".gitignore is not covered by the signature"),
        (lambda path: (path / "bundle.sig.new").touch(), "bundle.sig.new is not covered by the signature"),
        (
            lambda path: (path / "engine/a.bin").symlink_to(path / "engine/openvino_model.bin"),
            "engine/a.bin is a link or a special file",
        ),
        (lambda path: (path / "more").symlink_to("/etc"), "more is a link or a special file"),
        (lambda path: os.mkfifo(path / "pipe"), "pipe is a link or a special file"),
    ],
    ids=["bin", "evaluation", "manifest", "missing", "extra", "git", "aside", "link", "linked folder", "pipe"],
)
def test_any_other_files_than_those_signed_are_refused_by_name(
    bundle: Bundle, release: Pair, damage: Callable[[Path], None], told: str
) -> None:
    sign(bundle, release.private)
    check(bundle.path, release.public)
    damage(bundle.path)
    with pytest.raises(SignatureRefused, match=told.replace(".", r"\.")) as refused:
        check(bundle.path, release.public)
    assert "slipstream sign" in refused.value.remedy


def test_a_file_with_the_same_bytes_through_a_link_is_refused(bundle: Bundle, release: Pair, tmp_path: Path) -> None:
    sign(bundle, release.private)
    weights = bundle.path / "engine/openvino_model.bin"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureRefused, match="is a link"):
        check(bundle.path, release.public)


def test_of_many_wrong_files_five_are_named_and_the_others_counted(bundle: Bundle, release: Pair) -> None:
    sign(bundle, release.private)
    for number in range(40):
        (bundle.path / f"extra-{number:02}").touch()
    with pytest.raises(SignatureRefused, match=r"extra-04 is not covered by the signature; and 35 more$"):
        check(bundle.path, release.public)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not JSON"),
        (b"\x00\xff" * 500, "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "does not say which key made it"),
        (b'{"verificationMaterial": {"certificate": {"rawBytes": "AA=="}}}', "does not say which key made it"),
        (b'{"verificationMaterial": {"publicKey": {"hint": ""}}}', "does not say which key made it"),
        (b'{"verificationMaterial": {"publicKey": {"hint": "\\u001b[2J"}}}', "does not say which key made it"),
        (b" " * (4 * 1024**2 + 1), "4194305 bytes"),
    ],
    ids=["empty", "bytes", "deep", "list", "object", "certificate", "no hint", "escape", "huge"],
)
def test_what_is_no_signature_is_refused(bundle: Bundle, release: Pair, data: bytes, told: str) -> None:
    (bundle.path / "bundle.sig").write_bytes(data)
    with pytest.raises(SignatureRefused, match=told):
        check(bundle.path, release.public)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("dsseEnvelope"),
        lambda document: document["dsseEnvelope"].update(signatures=[]),
        lambda document: document["dsseEnvelope"].update(signatures=None),
        lambda document: document["dsseEnvelope"].update(payload="%%%"),
        lambda document: document["dsseEnvelope"].update(payloadType="text/plain", payload=""),
        lambda document: document["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
        lambda document: document.update(mediaType="text/plain"),
        rewrite_statement,
    ],
    ids=["no envelope", "no signatures", "null", "payload", "type", "short", "media", "statement"],
)
def test_a_signature_that_was_tampered_with_is_refused(
    bundle: Bundle, release: Pair, change: Callable[[dict[str, Any]], None]
) -> None:
    sign(bundle, release.private)
    rewrite(bundle, change)
    with pytest.raises(SignatureRefused):
        check(bundle.path, release.public)


def test_a_statement_changed_with_its_files_is_called_forged(bundle: Bundle, release: Pair) -> None:
    sign(bundle, release.private)
    shutil.rmtree(bundle.path / "engine")
    rewrite(bundle, rewrite_statement)
    with pytest.raises(SignatureRefused, match="changed or forged"):
        check(bundle.path, release.public)


def test_a_signature_that_is_no_file_is_refused_and_not_waited_for(
    bundle: Bundle, release: Pair, tmp_path: Path
) -> None:
    sign(bundle, release.private)
    place = bundle.path / "bundle.sig"
    place.rename(tmp_path / "good.sig")
    place.symlink_to(tmp_path / "good.sig")
    with pytest.raises(SignatureRefused, match="is a link"):
        check(bundle.path, release.public)
    place.unlink()
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SignatureRefused, match="is a link"):
        check(bundle.path, release.public)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(SignatureRefused, match="is no file"):
        check(bundle.path, release.public)
    place.unlink()
    place.mkdir()
    with pytest.raises(SignatureRefused, match="is no file"):
        check(bundle.path, release.public)


def test_an_unsigned_bundle_is_told_apart(bundle: Bundle, release: Pair) -> None:
    with pytest.raises(Unsigned, match="is not signed") as refused:
        check(bundle.path, release.public)
    assert "slipstream sign" in refused.value.remedy


def test_another_key_is_named_beside_the_trusted_one(bundle: Bundle, release: Pair, stranger: Pair) -> None:
    sign(bundle, stranger.private)
    with pytest.raises(SignatureRefused) as refused:
        check(bundle.path, release.public)
    for pair in (release, stranger):
        assert pair.public.fingerprint[:16] in refused.value.message


def test_naming_the_trusted_key_does_not_help_a_stranger(bundle: Bundle, release: Pair, stranger: Pair) -> None:
    sign(bundle, stranger.private)
    hint = {"publicKey": {"hint": release.public.fingerprint}}
    rewrite(bundle, lambda document: document["verificationMaterial"].update(hint))
    with pytest.raises(SignatureRefused, match="changed or forged"):
        check(bundle.path, release.public)


@pytest.mark.parametrize("ignored", [["bundle.sig", "engine"], ["bundle.sig", "evaluation.json"]])
def test_the_key_holder_s_signature_over_a_part_is_none_over_the_whole(
    bundle: Bundle, release: Pair, ignored: list[str]
) -> None:
    part = hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=release.private.path).set_hashing_config(part)
    signer.sign(bundle.path, bundle.path / "bundle.sig")
    with pytest.raises(SignatureRefused, match=f"{ignored[1]}.* is not covered by the signature"):
        check(bundle.path, release.public)


def test_other_digests_than_sha256_are_refused_with_the_reason(bundle: Bundle, release: Pair) -> None:
    digests = hashing.Config().use_file_serialization(hashing_algorithm="blake3")
    digests.set_ignored_paths(paths=["bundle.sig"], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=release.private.path).set_hashing_config(digests)
    signer.sign(bundle.path, bundle.path / "bundle.sig")
    with pytest.raises(SignatureRefused, match="blake3 digest, and sha256 is needed"):
        check(bundle.path, release.public)


def test_what_is_signed_here_the_library_verifies_and_the_other_way_round(bundle: Bundle, release: Pair) -> None:
    place = bundle.path / "bundle.sig"
    sign(bundle, release.private)
    theirs = verifying.Config().use_elliptic_key_verifier(public_key=release.public.path)
    theirs.verify(bundle.path, place)
    place.unlink()
    digests = hashing.Config().set_ignored_paths(paths=[place.name])
    signer = signing.Config().use_elliptic_key_signer(private_key=release.private.path).set_hashing_config(digests)
    signer.sign(bundle.path, place)
    check(bundle.path, release.public)


def test_a_signed_bundle_may_be_moved_and_signed_anew(
    bundle: Bundle, release: Pair, stranger: Pair, tmp_path: Path
) -> None:
    sign(bundle, stranger.private)
    assert sign(bundle, release.private) == len(contents(bundle.path))
    assert claimed_key(bundle.path) == release.public.fingerprint
    moved = bundle.path.rename(tmp_path / "elsewhere")
    check(moved, release.public)
    assert not (moved / "bundle.sig.new").exists()


def test_a_damaged_bundle_is_not_signed(bundle: Bundle, release: Pair) -> None:
    sign(bundle, release.private)
    before = (bundle.path / "bundle.sig").read_bytes()
    flip(bundle.path / "embedder/model.onnx")
    with pytest.raises(BundleCorrupt, match=r"embedder/model\.onnx was changed"):
        sign(bundle, release.private)
    assert (bundle.path / "bundle.sig").read_bytes() == before


def test_what_a_killed_run_left_is_cleared_away_before_signing(bundle: Bundle, release: Pair) -> None:
    (bundle.path / "bundle.sig.new").write_text("half of a sig")
    sign(bundle, release.private)
    check(bundle.path, release.public)
    assert {path.name for path in bundle.path.glob("bundle.sig*")} == {"bundle.sig"}


def test_a_folder_in_the_place_of_the_signature_is_told(bundle: Bundle, release: Pair) -> None:
    (bundle.path / "bundle.sig").mkdir()
    with pytest.raises(signature.SignatureUnwritable, match=r"bundle\.sig cannot be written"):
        sign(bundle, release.private)
    assert not (bundle.path / "bundle.sig.new").exists()


def test_every_byte_is_read_once(bundle: Bundle, release: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(bundle, release.private)
    found = contents(bundle.path)
    monkeypatch.setattr(signature, "file_entries", lambda *_, **__: pytest.fail("hashed again"))
    check(bundle.path, release.public, found)
    assert {entry.path for entry in found} == {
        "bundle.json",
        *(entry.path for entry in file_entries(bundle.path) if entry.path != "bundle.sig"),
    }


def test_signing_reads_every_byte_once(bundle: Bundle, release: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    hashed = inventory._sha256
    monkeypatch.setattr(inventory, "_sha256", lambda path: (read.append(path), hashed(path))[1])
    sign(bundle, release.private)
    assert len(read) == len(set(read)) == len(bundle.manifest.files) + 2  # the manifest, and what was measured


def test_a_manifest_that_is_a_link_is_not_signed(bundle: Bundle, release: Pair, tmp_path: Path) -> None:
    manifest = bundle.path / "bundle.json"
    manifest.rename(tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(SignatureRefused, match=r"bundle\.json is a link"):
        sign(bundle, release.private)
    assert not (bundle.path / "bundle.sig").exists()


OFFLINE = """
import sys

def forbid(event, args):
    if event.startswith("socket."):
        raise RuntimeError(f"the network was asked: {event} {args}")

sys.addaudithook(forbid)

from pathlib import Path
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.signing import keys, signature

bundle, pem = Bundle.open(Path(sys.argv[1])), Path(sys.argv[2])
public = keys.write_pair(pem, "a password")
signature.sign(bundle, keys.private_key(pem, lambda: "a password"))
signature.check(bundle.path, public)
print(sorted({"torch", "transformers", "mlflow", "onnxruntime", "openvino"} & set(sys.modules)))
"""


def test_signing_and_checking_open_no_socket_and_load_no_framework(bundle: Bundle, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OFFLINE, str(bundle.path), str(tmp_path / "key.pem")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
