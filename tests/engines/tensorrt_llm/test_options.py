"""The recipe's TensorRT-LLM section: what 1.2.1 would refuse after an hour is refused when the recipe is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.cards import CARDS


def options(**fields: Any) -> TensorRtLlmOptions:
    return TensorRtLlmOptions.model_validate({"gpu": "l40s", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpu": "voodoo2"}, "no GPU is known as 'voodoo2': choose one of a10g"),
        ({"gpu": {"memory_mib": 24000}}, "compute_capability"),
        ({"max_input_len": 4096, "max_seq_len": 4096}, "leaves no token"),
        ({"max_batch_size": 512, "max_num_tokens": 256}, "max_batch_size 512 exceeds max_num_tokens 256"),
        ({"max_input_len": 8192, "max_num_tokens": 4096, "chunked_context": False}, "set chunked_context"),
        ({"opt_num_tokens": 9000}, "opt_num_tokens 9000 exceeds"),
        ({"paged_context_fmha": False}, "chunked_context, kv_cache.enable_block_reuse need paged_context_fmha"),
        ({"tensor_parallel": 3}, "tensor_parallel"),
        ({"kv_cache": {"free_gpu_memory_fraction": 1.2}}, "free_gpu_memory_fraction"),
        ({"kv_cache": {"dtype": "int8"}}, "kv_cache.dtype"),
        ({"opt_batch_size": 8}, "opt_batch_size"),
        ({"speculative": {"method": "Eagle3"}}, "speculative.method"),
        ({"speculative": {"method": "ngram"}}, "mode engine of TensorRT-LLM 1.2.1 has no speculative.method ngram"),
        ({"speculative": {"method": "eagle", "draft_model": "/m"}}, "has no speculative.method eagle"),
        ({"speculative": {"method": "draft_target"}}, "needs draft_model"),
        ({"speculative": {"method": "draft_target", "draft_model": "/m", "max_draft_len": 0}}, "max_draft_len"),
        ({"speculative": {"method": "none", "max_draft_len": 8}}, "max_draft_len mean nothing to"),
        (
            {
                "speculative": {"method": "draft_target", "draft_model": "/m"},
                "kv_cache": {"enable_block_reuse": False},
            },
            "draft_target needs kv_cache.enable_block_reuse",
        ),
        (
            {
                "speculative": {"method": "draft_target", "draft_model": "/m"},
                "chunked_context": False,
                "max_input_len": 4096,
            },
            "draft_target needs chunked_context",
        ),
        ({"mode": "llmapi", "speculative": {"method": "lookahead"}}, "mode llmapi of TensorRT-LLM 1.2.1 has no"),
        ({"mode": "llmapi", "gemm_plugin": "float16"}, "gemm_plugin are trtllm-build's"),
        (
            {"mode": "llmapi", "speculative": {"method": "ngram", "max_matching_ngram_size": 0}},
            "max_matching_ngram_size",
        ),
    ],
)
def test_what_the_release_refuses_is_refused_by_the_recipe(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        options(**fields)
    place = ".".join(str(part) for part in refused.value.errors()[0]["loc"])
    assert said in f"{place}: {refused.value.errors()[0]['msg']}"


def test_a_card_that_nobody_listed_can_be_written_out() -> None:
    card = options(gpu={"memory_mib": 97887, "compute_capability": 12.0}).gpu
    assert (card.sm, card.memory_bytes) == (120, 97887 * 2**20)


def test_cards_hold_less_than_their_boxes_say() -> None:
    assert CARDS["h100"].memory_bytes < 80 * 2**30
    assert CARDS["l40s"].memory_bytes < 48 * 2**30


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"speculative": {"method": "lookahead", "max_window_size": 8}},
        {"mode": "llmapi", "speculative": {"method": "eagle", "draft_model": "hf:o/n", "one_model": False}},
    ],
)
def test_options_survive_being_written_and_read(fields: dict[str, Any]) -> None:
    given = options(**fields)
    assert TensorRtLlmOptions.model_validate(given.model_dump(mode="json")) == given


def test_who_proposes_from_outside_the_step_is_known() -> None:
    def two(method: str, **more: Any) -> bool:
        return options(mode="llmapi", speculative={"method": method, **more}).speculative.runs_two_models

    assert two("ngram")
    assert two("draft_target", draft_model="/m")
    assert two("eagle", draft_model="/m", one_model=False)
    assert not two("eagle", draft_model="/m")
    assert not two("none")


def test_lookahead_proposes_what_its_three_numbers_say() -> None:
    speculative = {
        "method": "lookahead",
        "max_window_size": 7,
        "max_ngram_size": 5,
        "max_verification_set_size": 7,
    }
    assert options(speculative=speculative).speculative.draft_tokens == (5 - 2) + (7 - 1 + 7) * (5 - 1)
