"""The key that a server may want: from the environment into a header, and into no file and no message."""

import os

from slipstream import InputError

API_KEY = "SLIPSTREAM_LOADTEST_API_KEY"


class KeyInvalid(InputError):
    """What the environment names as the key cannot stand in a header."""


def api_key() -> str | None:
    """The key without the white space around it, as secrets in files end with a line break; None where none is given.

    Raises:
        KeyInvalid: it has a character that no header may have. An HTTP client would say so with the whole header.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise KeyInvalid(
            "the server's key has a line break, a control character or one beyond ASCII, which no header may have",
            f"set {API_KEY} to the key alone",
        )
    return key or None


def authorization() -> dict[str, str]:
    """The header that brings it; none without a key.

    Raises:
        KeyInvalid: see `api_key`.
    """
    key = api_key()
    return {} if key is None else {"Authorization": f"Bearer {key}"}


__all__ = ["API_KEY", "KeyInvalid", "api_key", "authorization"]
