"""What a bundle's engine is loaded with: the limits that its manifest carries, and how it speculates."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.protocols import RuntimeOptions
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import Manifest
from slipstream.ensemble.triton.generator_model import runtime_options
from tests.ensemble.triton.tensorrt_llm_bundles import MINIMAL

AT = Path("/bundles/x")


def options_of(serving: dict[str, Any], draft: dict[str, Any] | None = None) -> RuntimeOptions:
    engine = {"target": "openvino", "versions": {}, "fingerprint": {}}
    fields = {**MINIMAL, "engine": engine, "serving": serving, "draft": draft, "id": "0" * 16}
    return runtime_options(Bundle(AT, Manifest.model_validate(fields)))


def test_limits_are_those_of_the_manifest() -> None:
    options = options_of({"max_concurrency": 3, "kv_cache_bytes": 2**26})
    assert (options.max_concurrency, options.kv_cache_bytes) == (3, 2**26)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_bundle_is_served_batch_invariant_where_it_says_so(wanted: bool) -> None:
    assert options_of({"batch_invariant": wanted}).batch_invariant is wanted


def test_only_constrained_citations_need_the_text_of_tokens() -> None:
    assert options_of({"citations": "free"}).tokenizer is None
    constrained = options_of({"citations": "constrained"})
    assert constrained.tokenizer == AT / "tokenizer" / "tokenizer.json"
    assert constrained.grammars


def test_a_draft_is_the_one_beside_the_engine() -> None:
    drafted = options_of({}, {"method": "draft", "tokens": 4}).speculation
    looked_up = options_of({}, {"method": "prompt_lookup", "tokens": 2, "ngram": 5}).speculation
    assert drafted is not None
    assert looked_up is not None
    assert (drafted.method, drafted.tokens, drafted.engine) == ("draft", 4, AT / "draft")
    assert (looked_up.method, looked_up.tokens, looked_up.ngram, looked_up.engine) == ("prompt_lookup", 2, 5, None)
    assert options_of({}).speculation is None
