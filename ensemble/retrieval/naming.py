"""How collections and their versions are called."""

import re
import secrets
from datetime import UTC, datetime

from slipstream.ensemble.retrieval.errors import CollectionNameInvalid

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")


def check_name(collection: str) -> str:
    """``collection`` as given.

    Raises:
        CollectionNameInvalid: it could not be a folder's name, or would leave its folder.
    """
    if _NAME.fullmatch(collection) is None:
        raise CollectionNameInvalid(
            f"{collection[:80]!r} cannot name a collection",
            "Use up to 64 of the characters A-Z a-z 0-9 . _ - without a leading dot.",
        )
    return collection


def new_version() -> str:
    """A name that no other version has, and that says when it was made (UTC)."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None


def made_at(version: str) -> datetime:
    """When `new_version` gave that name."""
    return datetime.strptime(version[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
