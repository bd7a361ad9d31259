"""What a file is there for, told by its path."""

import pytest

from slipstream.ensemble.retrieval.roles import is_test


@pytest.mark.parametrize(
    "path",
    [
        "shop/tests/cart.py", "test/index.js", "shop/test_cart.py", "shop/conftest.py", "cart_test.go",
        "src/cart.spec.ts", "src/cart.test.tsx", "src/__tests__/cart.ts", "shop/testdata/cart.rs", "src/CartTest.java",
    ],
)  # fmt: skip
def test_what_is_a_test_by_the_customs_of_its_language(path: str) -> None:
    assert is_test(path)


@pytest.mark.parametrize(
    "path",
    [
        "shop/testing_tools.py", "shop/contest/cart.py", "latest.go", "shop/attest.ts", "protest/a.rs", "spec.ts",
        "flask/testing.py", "src/Latest.java", "tests.md", "",
    ],
)  # fmt: skip
def test_what_only_sounds_like_one_is_none(path: str) -> None:
    assert not is_test(path)
