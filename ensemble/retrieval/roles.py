"""What a file is there for, told by its path: the product, or testing it."""

import re

_TEST = re.compile(
    r"(?:^|/)(?:tests?|__tests__|testdata|spec|e2e)/"
    r"|(?:^|/)(?:test_[^/]*|conftest)\.pyi?$"
    r"|[._-](?:test|tests|spec)\.[a-z]+$"
    r"|(?:^|/)[A-Z]\w*Tests?\.java$"
)


def is_test(path: str) -> bool:
    """Whether ``path`` is that of a test or of what only tests use, by the customs of its language."""
    return _TEST.search(path) is not None
