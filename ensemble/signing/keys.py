"""The keys that bundles are signed and checked with: elliptic curves in PEM files, as OpenSSL writes them."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_CURVES = {"secp256r1", "secp384r1", "secp521r1"}
_MOST_BYTES = 64 * 1024
_PUBLIC_HALF = "openssl pkey -in KEY.pem -pubout -out KEY.pub"


class KeyUnusable(InputError):
    """A key file cannot be read, or holds no key that signs bundles."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """``fingerprint`` is the sha256 of the key in PEM: what ``sha256sum`` says of the file that OpenSSL writes."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """``password`` is None where the file is not encrypted; ``fingerprint`` is that of the public half."""

    path: Path
    password: bytes | None
    fingerprint: str

    @property
    def readable_by_others(self) -> bool:
        """Whether the file alone is enough for others of this machine to sign: no password, and leave to read it."""
        return self.password is None and bool(self.path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def public_key(path: Path) -> PublicKey:
    """Read the public key that signatures are checked with.

    Raises:
        KeyUnusable: no file, no PEM, a private key, or of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = path.expanduser().absolute()
    data = _read(path)
    if b"PRIVATE KEY-----" in data:
        raise KeyUnusable(
            f"{path} holds a private key, and who checks needs the public one", f"give its public half: {_PUBLIC_HALF}"
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path} holds no public key in PEM", f"make one: {_PUBLIC_HALF}") from error
    return PublicKey(path, _fingerprint(_elliptic(key, path)))


def private_key(path: Path, ask_password: Callable[[], str | None]) -> PrivateKey:
    """Read the private key that signs.

    Args:
        ask_password: called only if the file is encrypted; None if there is no password.

    Raises:
        KeyUnusable: no file, no PEM, a wrong or no password, or a key of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = path.expanduser().absolute()
    data = _read(path)
    password: bytes | None = None
    try:
        try:
            key = load_pem_private_key(data, None)
        except TypeError:  # it is encrypted
            password = (ask_password() or "").encode()
            if not password:
                raise KeyUnusable(f"{path} is encrypted", "set SLIPSTREAM_KEY_PASSWORD to its password") from None
            key = load_pem_private_key(data, password)
    except (ValueError, UnsupportedAlgorithm) as error:
        if password is not None:
            raise KeyUnusable(f"{path} does not open with this password", "check SLIPSTREAM_KEY_PASSWORD") from error
        remedy = "make a pair: slipstream sign --new-key KEY.pem"
        raise KeyUnusable(f"{path} holds no private key in PEM", remedy) from error
    return PrivateKey(path, password, _fingerprint(_elliptic(key, path, lambda key: key.public_key())))


def write_pair(path: Path, password: str | None) -> PublicKey:
    """Make a P-256 pair: the private key in ``path``, for its owner alone, and the public one in ``<path>.pub``.

    Raises:
        KeyUnusable: one of the files exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path = path.expanduser().absolute()
    beside = path.with_suffix(".pub")
    if beside == path or beside.exists():
        raise KeyUnusable(f"{beside} is the public key's place, and is taken", "give another name: KEY.pem")
    _write_new(path, private, 0o600)
    _write_new(beside, _pem(key.public_key()), 0o644)
    return PublicKey(beside, _fingerprint(key.public_key()))


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise KeyUnusable(f"there is no key file {path}", "give the path of a PEM file")
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{str(path)[:200]} cannot be read: {error}", "give the path of a PEM file") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise KeyUnusable(f"{path} exists, and a key is never written over", "give another name") from None
    except OSError as error:
        raise KeyUnusable(f"{path} cannot be written: {error.strerror}", "give a place that can be") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _elliptic(key: Any, path: Path, public: Callable[[Any], Any] = lambda key: key) -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    half = public(key)
    if not isinstance(half, EllipticCurvePublicKey) or half.curve.name not in _CURVES:
        kind = getattr(getattr(half, "curve", None), "name", type(half).__name__.strip("_").removesuffix("PublicKey"))
        raise KeyUnusable(
            f"{path} holds a key of the kind {kind}; bundles are signed with P-256, P-384 or P-521",
            "make a pair: slipstream sign --new-key KEY.pem",
        )
    return half


def _pem(key: "EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(key: "EllipticCurvePublicKey") -> str:
    return sha256(_pem(key)).hexdigest()


__all__ = ["KeyUnusable", "PrivateKey", "PublicKey", "private_key", "public_key", "write_pair"]
