"""The key that a server may want: from the environment into a header, and into no file."""

import os

API_KEY = "SLIPSTREAM_LOADTEST_API_KEY"


def api_key() -> str | None:
    """The key; None where none is given."""
    return os.environ.get(API_KEY) or None


def authorization() -> dict[str, str]:
    """The header that brings it; none without a key."""
    key = api_key()
    return {} if key is None else {"Authorization": f"Bearer {key}"}


__all__ = ["API_KEY", "api_key", "authorization"]
