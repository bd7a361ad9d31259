"""What the settings demand of a bundle's signature, asked before anything of it is loaded.

`admit` is called by ``slipstream serve`` before it reads a tokenizer, by every model inside Triton before it opens a
file, and through `trusted_bundle` by every command that loads a bundle's embedder. Reading every byte twice would be
twice the wait, so the server hands what it checked to its Triton as a *seal*: the identity, size and times of every
file. A model that finds the files under the same seal loads them; any other (a Triton started by hand, files that were
touched since) checks the signature itself. The kernel sets a file's change time at every write and nobody can set it
back, so bytes that changed have another seal.

Between the check and the load a process of the same user can still change a file that it has mapped: who runs as the
server's user has no need to, and is not what a signature keeps out. Give the server's user no right to write there.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time_ns
from typing import Literal

import structlog

from slipstream.ensemble.bundle import Bundle, find_bundle
from slipstream.ensemble.manifest import FileEntry
from slipstream.ensemble.signing.keys import PublicKey, public_key
from slipstream.ensemble.signing.signature import SignatureRefused, Unsigned, check, claimed_key
from slipstream.settings import Settings

log = structlog.get_logger(__name__)

SEAL = "SLIPSTREAM_BUNDLE_SEAL"
"""Environment variable by which a server hands the seal to its Triton."""
_SETTLED_NS = 1_000_000_000
"""A file that changed so lately may change again under the same time: clocks of file systems tick every 10 ms."""


def admit(folder: Path, settings: Settings, sealed: str = "") -> str:
    """Refuse a bundle whose signature is not what ``settings`` demand.

    Without `Settings.verify_key` there is nothing to check. With it a wrong signature is refused; a missing one too if
    `Settings.require_signature`, else it is only warned of.

    Args:
        sealed: the seal under which the server checked these files.

    Returns:
        The seal of what was checked; empty if there is none to hand on.

    Raises:
        KeyUnusable: the public key cannot be read.
        SignatureRefused: with the reason.
    """
    if settings.verify_key is None:
        return ""
    key = public_key(settings.verify_key)
    before, changed_ns = _sealed(folder, key)
    if sealed and sealed == before:
        return sealed
    try:
        check(folder, key)
    except Unsigned as error:
        if settings.require_signature:
            raise
        log.warning("bundle.unsigned", bundle=str(folder), remedy=error.remedy)
    if _sealed(folder, key)[0] != before:
        raise _changing(folder)
    return before if time_ns() - changed_ns > _SETTLED_NS else ""


def trusted_bundle(settings: Settings, reference: str | None = None) -> Bundle:
    """`find_bundle`, for who loads from it outside of a server. Reads every byte where a key is set.

    Raises:
        BundleError: see `find_bundle`.
        KeyUnusable, SignatureRefused: see `admit`.
    """
    bundle = find_bundle(settings.bundles_dir, reference)
    admit(bundle.path, settings)
    return bundle


def _sealed(folder: Path, key: PublicKey) -> tuple[str, int]:
    """The seal of ``folder`` and the last time, in ns, at which anything in it changed."""
    rows: list[tuple[str, ...]] = []
    changed_ns = 0
    for path in sorted(folder.rglob("*")):
        try:
            found = path.lstat()
        except FileNotFoundError:
            raise _changing(folder) from None
        changed_ns = max(changed_ns, found.st_ctime_ns)
        facts = (found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        rows.append((os.fsencode(path.relative_to(folder)).hex(), *map(str, facts)))
    return sha256(json.dumps([key.fingerprint, str(folder), *rows]).encode()).hexdigest(), changed_ns


def _changing(folder: Path) -> SignatureRefused:
    return SignatureRefused(f"{folder} changed while it was checked", "wait until nothing writes there; serve again")


@dataclass(frozen=True, slots=True)
class Signed:
    """What is known of a bundle's signature; as text, one line for people.

    Attributes:
        state: ``trusted`` by the key in force, ``wrong``, ``unsigned``, or ``unchecked`` where no key is set.
        key: fingerprint of the key that it names; unproven unless trusted.
        problem: why the settings refuse it.
        remedy: what to do then.
    """

    state: Literal["trusted", "wrong", "unsigned", "unchecked"]
    key: str | None = None
    problem: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        return {
            "trusted": f"signed with the trusted key {self.key}",
            "wrong": "wrongly signed",
            "unsigned": "not signed",
            "unchecked": f"signed, it says with the key {self.key}; to check that, set SLIPSTREAM_VERIFY_KEY",
        }[self.state]


def state_of(folder: Path, files: Sequence[FileEntry], settings: Settings) -> Signed:
    """What the signature of a bundle is worth under ``settings``, told without refusing anything.

    Args:
        files: the `contents` of ``folder``.

    Raises:
        KeyUnusable: `Settings.verify_key` cannot be read.
    """
    key = None if settings.verify_key is None else public_key(settings.verify_key)
    claim = None
    try:
        claim = claimed_key(folder)
        if key is not None:
            check(folder, key, files)
    except Unsigned as error:
        return Signed("unsigned", problem=error.message if settings.require_signature else None, remedy=error.remedy)
    except SignatureRefused as error:
        return Signed("wrong", claim, error.message, error.remedy)
    return Signed("trusted" if key else "unchecked", claim)


__all__ = ["SEAL", "Signed", "admit", "state_of", "trusted_bundle"]
