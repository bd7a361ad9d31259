"""Keys are PEM files of elliptic curves; whatever else lies there is told for what it is."""

import stat
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from slipstream.ensemble.signing.keys import KeyUnusable, private_key, public_key, write_pair
from tests.ensemble.signing.conftest import Pair

PEM, SPKI = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def rsa_public() -> bytes:
    return rsa.generate_private_key(65537, 2048).public_key().public_bytes(PEM, SPKI)


def ed25519_public() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(PEM, SPKI)


def bitcoin_public() -> bytes:
    return ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(PEM, SPKI)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: b"", "no public key"),
        (lambda: b"\x30\x59\x30\x13", "no public key"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (rsa_public, "RSA"),
        (ed25519_public, "Ed25519"),
        (bitcoin_public, "secp256k1"),
    ],
    ids=["empty", "binary", "garbage", "rsa", "ed25519", "secp256k1"],
)
def test_what_is_no_public_key_of_the_right_kind_is_refused(
    tmp_path: Path, content: Callable[[], bytes], told: str
) -> None:
    path = tmp_path / "key.pub"
    path.write_bytes(content())
    with pytest.raises(KeyUnusable, match=told) as refused:
        public_key(path)
    assert refused.value.remedy


def test_a_private_key_in_the_place_of_the_public_one_is_refused_with_the_way_to_its_half(release: Pair) -> None:
    with pytest.raises(KeyUnusable, match="holds a private key") as refused:
        public_key(release.private.path)
    assert "openssl pkey" in refused.value.remedy


@pytest.mark.parametrize("path", ["nowhere.pem", ".", "a\0b", "x" * 5000])
def test_no_file_is_told(tmp_path: Path, path: str) -> None:
    for read in (public_key, lambda path: private_key(path, lambda: None)):
        with pytest.raises(KeyUnusable):
            read(tmp_path / path)


def test_a_public_key_cannot_sign(release: Pair) -> None:
    with pytest.raises(KeyUnusable, match="no private key"):
        private_key(release.public.path, lambda: None)


def test_an_encrypted_key_opens_with_its_password_only(tmp_path: Path) -> None:
    made = write_pair(tmp_path / "key.pem", "correct horse")
    assert b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()
    opened = private_key(tmp_path / "key.pem", lambda: "correct horse")
    assert (opened.fingerprint, opened.password) == (made.fingerprint, b"correct horse")
    with pytest.raises(KeyUnusable, match="does not open with this password"):
        private_key(tmp_path / "key.pem", lambda: "battery staple")
    with pytest.raises(KeyUnusable, match="is encrypted") as refused:
        private_key(tmp_path / "key.pem", lambda: None)
    assert "SLIPSTREAM_KEY_PASSWORD" in refused.value.remedy


def test_a_key_without_a_password_asks_for_none(release: Pair) -> None:
    assert private_key(release.private.path, lambda: pytest.fail("asked")).password is None


def test_a_new_pair_is_its_owner_s_and_writes_over_nothing(tmp_path: Path) -> None:
    write_pair(tmp_path / "key.pem", None)
    private = (tmp_path / "key.pem").read_bytes()
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    with pytest.raises(KeyUnusable, match="taken"):
        write_pair(tmp_path / "key.pem", None)
    (tmp_path / "key.pub").unlink()
    with pytest.raises(KeyUnusable, match="never written over"):
        write_pair(tmp_path / "key.pem", None)
    assert (tmp_path / "key.pem").read_bytes() == private
    with pytest.raises(KeyUnusable, match="cannot be written"):
        write_pair(tmp_path / "no" / "such" / "folder.pem", None)
    with pytest.raises(KeyUnusable, match="public key's place"):
        write_pair(tmp_path / "other.pub", None)


def test_keys_that_openssl_makes_are_taken_and_their_file_has_the_fingerprint(tmp_path: Path) -> None:
    for curve in ("prime256v1", "secp384r1"):
        key, half = tmp_path / f"{curve}.pem", tmp_path / f"{curve}.pub"
        subprocess.run(["openssl", "ecparam", "-name", curve, "-genkey", "-out", str(key)], check=True)
        half_of = ["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(half)]
        subprocess.run(half_of, check=True)
        assert public_key(half).fingerprint == sha256(half.read_bytes()).hexdigest()
        assert private_key(key, lambda: None).fingerprint == public_key(half).fingerprint
