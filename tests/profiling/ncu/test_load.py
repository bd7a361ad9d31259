"""What keeps the engine decoding while it is measured."""

import pytest

from slipstream.loadtest.credentials import API_KEY, KeyInvalid
from slipstream.profiling.ncu.load import Load


def test_a_key_that_no_header_may_hold_is_refused_at_once_and_not_in_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(API_KEY, "sk-\nsecret")
    with pytest.raises(KeyInvalid) as refused:
        Load("http://127.0.0.1:9", 1)
    assert "secret" not in str(refused.value)
