"""What the kept facts of 1.2.1 refuse of what we hand over at run time."""

from typing import Any

import pytest

from slipstream.engines.tensorrt_llm.contract import ContractViolation
from slipstream.engines.tensorrt_llm.runtime.contract import check_arguments, check_parameters, check_tensors

TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "input_ids": ("INT32", (1, 9)), "input_lengths": ("INT32", (1, 1)), "request_output_len": ("INT32", (1, 1)),
}  # fmt: skip
PARAMETERS = {"gpt_model_type": "inflight_fused_batching", "gpt_model_path": "/engines/target"}


class TestTensors:
    def test_the_least_that_the_backend_needs_passes(self) -> None:
        check_tensors("inputs", TENSORS)

    @pytest.mark.parametrize(
        ("name", "tensor", "says"),
        [
            ("min_length", ("INT32", (1, 1)), "no input 'min_length'"),  # the name that it had before 1.0
            ("random_seed", ("UINT64", (1, 1)), "no input 'random_seed'"),
            ("seed", ("INT64", (1, 1)), "seed is UINT64, not INT64"),
            ("draft_logits", ("BOOL", (1, 4, 64)), "not BOOL"),
            ("temperature", ("FP32", (1,)), "shape"),
            ("stop_words_list", ("INT32", (1, 3, 4)), "shape"),
        ],
    )
    def test_other_names_types_and_shapes_are_refused(
        self, name: str, tensor: tuple[str, tuple[int, ...]], says: str
    ) -> None:
        with pytest.raises(ContractViolation, match=says):
            check_tensors("inputs", {**TENSORS, name: tensor})

    @pytest.mark.parametrize("name", ["input_lengths", "request_output_len"])
    def test_what_is_not_optional_is_needed(self, name: str) -> None:
        with pytest.raises(ContractViolation, match=f"needs {name}"):
            check_tensors("inputs", {other: tensor for other, tensor in TENSORS.items() if other != name})


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"random_seed": 1}, "random_seed"),
            ({"stop_token_ids": 2}, "stop_token_ids"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"top_p": 1.1}, "top_p"),
            ({"temperature": -1.0}, "temperature"),
        ],
    )
    def test_of_sampling_are_known_typed_and_in_range(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(ContractViolation, match=says):
            check_arguments("SamplingParams", {"max_tokens": 8, **arguments})

    @pytest.mark.parametrize("arguments", [{}, {"grammar": "root", "regex": "a"}, {"ebnf": "root"}])
    def test_of_guided_decoding_are_one_guide_that_exists(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ContractViolation):
            check_arguments("GuidedDecodingParams", arguments)


class TestParameters:
    def test_the_least_that_the_backend_needs_passes(self) -> None:
        check_parameters(PARAMETERS)

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("engine_dir", "/engines", "no parameter 'engine_dir'"),  # the template's variable, not the parameter
            ("max_beam_width", "one", "max_beam_width is int"),
            ("enable_kv_cache_reuse", "True", "enable_kv_cache_reuse is bool"),
            ("gpt_model_path", "engines", "gpt_model_path is path"),
            ("gpt_model_type", "inflight_batching", "one of inflight_fused_batching, V1"),
            ("decoding_mode", "draft_target", "decoding_mode is one of"),
            ("guided_decoding_backend", "llguidance", "guided_decoding_backend is one of xgrammar"),
            ("kv_cache_free_gpu_mem_fraction", "1.2", "lies in"),
            ("executor_worker_path", "/usr/bin/worker", "is always"),
            ("gpu_device_ids", "", "gpu_device_ids is str"),
        ],
    )
    def test_others_are_refused(self, name: str, value: str, says: str) -> None:
        with pytest.raises(ContractViolation, match=says):
            check_parameters({**PARAMETERS, name: value})

    @pytest.mark.parametrize("name", sorted(PARAMETERS))
    def test_the_mandatory_are_needed(self, name: str) -> None:
        with pytest.raises(ContractViolation, match=f"needs the parameters {name}"):
            check_parameters({other: value for other, value in PARAMETERS.items() if other != name})
