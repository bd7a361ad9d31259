"""``bundle.sig``: an OpenSSF model signature over every file of a bundle but itself.

The format is a Sigstore bundle with a DSSE envelope around an in-toto statement of names and sha256 digests, made and
checked by `model-signing` (https://github.com/sigstore/model-transparency) with a key of one's own: neither asks the
network for anything. ``model_signing verify key BUNDLE --signature BUNDLE/bundle.sig --public_key KEY.pub`` says the
same of it. The library would read every byte itself; here it gets the digests that were already computed.
"""

import base64
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from slipstream import EnvironmentFault, GateError
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.disk import sync
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import SIGNATURE, FileEntry
from slipstream.ensemble.signing.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from model_signing.hashing import Config

_MOST_BYTES = 4 * 1024**2
"""A bundle of 13 files has a signature of 3 KB; each file more adds 180 bytes."""
_ASIDE = f"{SIGNATURE}.new"
_NAMED = 5
"""As many wrong files are named; of the others there is the number."""
_FETCH = (
    "take the bundle again from who signed it, or build it anew and sign that: slipstream sign BUNDLE --key KEY.pem"
)


class SignatureRefused(GateError):
    """The signature is not one of the trusted key over these files."""


class Unsigned(SignatureRefused):
    """There is no signature."""


class SignatureUnwritable(EnvironmentFault):
    """The signature cannot be put into the bundle's folder."""


def contents(folder: Path) -> list[FileEntry]:
    """What a signature covers: every file of ``folder`` but itself, with its digest. Reads every byte."""
    return file_entries(folder, but=(SIGNATURE,))


def sign(bundle: Bundle, key: PrivateKey) -> int:
    """Sign ``bundle`` with ``key``, in place of an older signature, and return how many files that covers.

    Raises:
        BundleCorrupt: its files are not those of its manifest, and nobody should vouch for it.
        SignatureUnwritable: the folder takes no file.
    """
    from model_signing import signing

    aside, place = bundle.path / _ASIDE, bundle.path / SIGNATURE
    try:
        try:
            aside.unlink(missing_ok=True)  # a run that was killed left it
            files = contents(bundle.path)
            bundle.verify(files)
            _require_plain(bundle.path, files)
            config = signing.Config().set_hashing_config(_known(files))
            # The annotation asks for str; `cryptography`, which gets it unchanged, takes bytes only.
            config.use_elliptic_key_signer(private_key=key.path, password=key.password)  # type: ignore[arg-type]
            config.sign(bundle.path, aside)
            sync(aside)
            aside.replace(place)
            sync(bundle.path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise SignatureUnwritable(
            f"{place} cannot be written: {error.strerror}", f"make room for a file at {place}, or sign a copy"
        ) from error
    return len(files)


def claimed_key(folder: Path) -> str:
    """Fingerprint of the key that the signature in ``folder`` names. Anybody can write that: only `check` proves it.

    Raises:
        Unsigned: there is no signature.
        SignatureRefused: it is a link, too large, or no signature.
    """
    return _claim(_document(folder))


def check(folder: Path, key: PublicKey, files: Sequence[FileEntry] | None = None) -> None:
    """See that ``key`` signed exactly the files that are in ``folder``.

    Args:
        files: the `contents` of ``folder``, if every byte was read already.

    Raises:
        Unsigned: there is no signature.
        SignatureRefused: another key's, forged, not of these files, or no signature at all.
    """
    document = _document(folder)
    if (claim := _claim(document)) != key.fingerprint:
        raise SignatureRefused(
            f"{folder} is signed with the key {claim[:16]}…, and trusted is {key.fingerprint[:16]}… ({key.path})",
            "take the bundle from who holds the trusted key, or set SLIPSTREAM_VERIFY_KEY to the key of who signed it",
        )
    found = contents(folder) if files is None else files
    _require_plain(folder, found)
    _prove(folder, key, document, found)


def _prove(folder: Path, key: PublicKey, document: dict[str, Any], found: Sequence[FileEntry]) -> None:
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=key.path).set_hashing_config(_known(found))
    try:
        config.verify(folder, folder / SIGNATURE)
    except InvalidSignature:
        raise SignatureRefused(
            f"{folder / SIGNATURE} was changed or forged: the key {key.fingerprint[:16]}… did not make it", _FETCH
        ) from None
    except Exception as error:  # whatever a file made by somebody else brings up: it is not what the key signed
        differing = list(_differences(document, found)) or [f"{type(error).__name__}: {str(error)[:200]}"]
        more = f"; and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        what = "; ".join(differing[:_NAMED]) + more
        raise SignatureRefused(f"{folder} is not what was signed: {what}", _FETCH) from error


def _known(files: Sequence[FileEntry]) -> "Config":
    """The library's hashing, answered from digests that are known.

    Only what is in ``files`` counts: the list of files to leave out that a signature carries is not followed, so
    that a signature over a part never passes for one over the whole.
    """
    from model_signing import hashing, manifest

    kind = manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE]}
    )

    digest = manifest.hashing.Digest  # type: ignore[attr-defined]

    class Known(hashing.Config):
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
            items = [kind.new_item(entry.path, digest("sha256", bytes.fromhex(entry.sha256))) for entry in files]
            return manifest.Manifest(Path(model_path).name, items, kind)

        def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
            """Follow none."""

    return Known()  # type: ignore[no-untyped-call]


def _require_plain(folder: Path, files: Sequence[FileEntry]) -> None:
    odd = [entry.path for entry in files if _is_odd(folder / entry.path)]
    if odd:
        raise SignatureRefused(
            f"{folder}: {', '.join(odd[:_NAMED])} is a link or a special file, and a signed bundle holds files only",
            f"remove it, or {_FETCH}",
        )


def _is_odd(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # it went away meanwhile
        return True


def _document(folder: Path) -> dict[str, Any]:
    path = folder / SIGNATURE
    try:
        fields = json.loads(_bytes(path))
    except (ValueError, RecursionError):
        raise SignatureRefused(f"{path} is no signature: it is not JSON", _FETCH) from None
    if not isinstance(fields, dict):
        raise SignatureRefused(f"{path} is no signature: it is not an object", _FETCH)
    return fields


def _bytes(path: Path) -> bytes:
    try:
        # A link is never followed, and opening a pipe does not wait for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Unsigned(f"{path.parent} is not signed", f"slipstream sign {path.parent} --key KEY.pem") from None
    except OSError as error:
        what = "is a link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise SignatureRefused(f"{path} {what}", _FETCH) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SignatureRefused(f"{path} is no file", _FETCH)
        if found.st_size > _MOST_BYTES:
            raise SignatureRefused(f"{path} has {found.st_size} bytes; a signature has a few thousand", _FETCH)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    finally:
        os.close(descriptor)


def _claim(document: dict[str, Any]) -> str:
    try:
        claim = document["verificationMaterial"]["publicKey"]["hint"]
    except (KeyError, TypeError):
        claim = None
    if not isinstance(claim, str) or not claim.isalnum():
        raise SignatureRefused(
            f"{SIGNATURE} does not say which key made it: it is no model signature with a key of one's own", _FETCH
        )
    return claim


def _differences(document: dict[str, Any], found: Sequence[FileEntry]) -> Iterator[str]:
    """What the signed statement and the folder disagree on; for the message only, the library has decided."""
    try:
        statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
        resources = statement["predicate"]["resources"]
        signed = {str(PurePosixPath(one["name"])): (one["algorithm"], one["digest"]) for one in resources}
    except (KeyError, TypeError, ValueError):
        return
    present = {entry.path: ("sha256", entry.sha256) for entry in found}
    for path in sorted(signed.keys() | present.keys()):
        if path not in signed:
            yield f"{path} is not covered by the signature"
        elif path not in present:
            yield f"{path} is missing"
        elif signed[path][0] != "sha256":
            yield f"{path} is signed by its {signed[path][0]} digest, and sha256 is needed"
        elif signed[path] != present[path]:
            yield f"{path} was changed"


__all__ = ["SignatureRefused", "SignatureUnwritable", "Unsigned", "check", "claimed_key", "contents", "sign"]
