"""The command lines and the LLM arguments that options become."""

from pathlib import PurePath
from typing import Any

import pytest

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.compiling import commands
from slipstream.engines.tensorrt_llm.compiling.llm_args import llm_arguments
from slipstream.engines.tensorrt_llm.contract import check_command, check_llm_args
from slipstream.engines.tensorrt_llm.contract.commands import Values
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.quantization import UnsupportedQuantization
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, known_shape

AWQ = QuantizationSpec(method="awq", group_size=128, symmetric=True)
GPTQ = QuantizationSpec(method="gptq", group_size=64, symmetric=True)
FP8 = QuantizationSpec(method="fp8")
PLAIN = QuantizationSpec(method="none")
IN, OUT, TEXTS = PurePath("/in"), PurePath("/out"), PurePath("/texts")


def options(**fields: Any) -> TensorRtLlmOptions:
    return TensorRtLlmOptions.model_validate({"gpu": "h100", **fields})


def shape(name: str) -> ModelShape:
    known = known_shape(name)
    assert known is not None
    return known


def built(**fields: Any) -> Values:
    return check_command(commands.build_target(options(**fields), IN, OUT))


def test_every_size_of_the_recipe_reaches_the_compiler() -> None:
    flags = built(
        max_batch_size=48,
        max_input_len=1000,
        max_seq_len=1200,
        max_num_tokens=4096,
        opt_num_tokens=512,
        tensor_parallel=2,
        kv_cache={"tokens_per_block": 64},
        gemm_plugin="bfloat16",
        multiple_profiles=True,
    )
    assert flags == {
        "--checkpoint_dir": "/in",
        "--output_dir": "/out",
        "--max_batch_size": 48,
        "--max_input_len": 1000,
        "--max_seq_len": 1200,
        "--max_num_tokens": 4096,
        "--opt_num_tokens": 512,
        "--tokens_per_block": 64,
        "--workers": 2,
        "--kv_cache_type": "paged",
        "--use_paged_context_fmha": "enable",
        "--gemm_plugin": "bfloat16",
        "--multiple_profiles": "enable",
    }


def test_paged_context_can_be_off_where_nothing_needs_it() -> None:
    off: dict[str, Any] = {"paged_context_fmha": False, "chunked_context": False}
    assert built(**off, kv_cache={"enable_block_reuse": False})["--use_paged_context_fmha"] == "disable"


def test_a_target_that_verifies_drafts_is_built_for_them_and_its_draft_is_an_ordinary_engine() -> None:
    fields: dict[str, Any] = {"speculative": {"method": "draft_target", "draft_model": "/d", "max_draft_len": 5}}
    target = built(**fields)
    assert target["--speculative_decoding_mode"] == "draft_tokens_external"
    assert target["--max_draft_len"] == 5
    assert target["--use_paged_context_fmha"] == "enable"
    draft = check_command(commands.build_draft(options(**fields), IN, OUT))
    assert "--speculative_decoding_mode" not in draft
    assert "--max_draft_len" not in draft


def test_between_two_engines_an_answer_so_far_is_a_prompt() -> None:
    fields: dict[str, Any] = {"max_input_len": 1000, "max_seq_len": 1200}
    assert built(**fields)["--max_input_len"] == 1000
    fields["speculative"] = {"method": "draft_target", "draft_model": "/d"}
    assert built(**fields)["--max_input_len"] == 1199


def test_lookahead_reserves_what_its_branches_take() -> None:
    lookahead = {"method": "lookahead", "max_window_size": 4, "max_ngram_size": 3, "max_verification_set_size": 4}
    flags = built(speculative=lookahead)
    assert flags["--speculative_decoding_mode"] == "lookahead_decoding"
    assert flags["--max_draft_len"] == 1 + 7 * 2


@pytest.mark.parametrize(
    ("spec", "fields", "expected"),
    [
        (AWQ, {}, {"--qformat": "int4_awq", "--awq_block_size": 128, "--calib_size": 32, "--dtype": "auto"}),
        (FP8, {"kv_cache": {"dtype": "fp8"}}, {"--qformat": "fp8", "--kv_cache_dtype": "fp8", "--calib_size": 512}),
        (AWQ, {"tensor_parallel": 4, "dtype": "float16"}, {"--tp_size": 4, "--dtype": "float16"}),
    ],
)
def test_what_a_gpu_quantizes(spec: QuantizationSpec, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    command = commands.quantize(options(**fields), spec, IN, TEXTS, OUT)
    assert command[1] == "/app/examples/quantization/quantize.py"
    flags = check_command(command)
    assert expected.items() <= flags.items()
    assert flags["--calib_dataset"] == "/texts"
    assert ("--kv_cache_dtype" in flags) == ("kv_cache" in fields)


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "models/core/llama"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "models/core/qwen"),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct", "models/contrib/deepseek_v2"),
    ],
)
def test_each_family_has_its_own_script(name: str, script: str) -> None:
    command = commands.convert(options(dtype="bfloat16", tensor_parallel=2), PLAIN, shape(name), IN, OUT)
    assert command[1] == f"/app/examples/{script}/convert_checkpoint.py"
    assert check_command(command) == {
        "--model_dir": "/in",
        "--output_dir": "/out",
        "--dtype": "bfloat16",
        "--tp_size": 2,
        "--use_parallel_embedding": True,  # the memory plan counts a half of it on each
    }
    assert "--use_parallel_embedding" not in commands.convert(options(dtype="bfloat16"), PLAIN, shape(name), IN, OUT)


def test_a_gptq_checkpoint_is_converted_with_its_own_groups() -> None:
    flags = check_command(commands.convert(options(), GPTQ, shape("Qwen/Qwen2.5-Coder-7B-Instruct"), IN, OUT))
    assert flags["--use_weight_only"] is True
    assert flags["--weight_only_precision"] == "int4_gptq"
    assert flags["--group_size"] == 64


def test_each_script_refuses_what_the_other_makes() -> None:
    with pytest.raises(UnsupportedQuantization, match=r"convert_checkpoint.py makes no awq"):
        commands.convert(options(), AWQ, shape("Qwen/Qwen2.5-Coder-7B-Instruct"), IN, OUT)
    with pytest.raises(UnsupportedQuantization, match=r"quantize.py makes no gptq"):
        commands.quantize(options(), GPTQ, IN, TEXTS, OUT)


def arguments(**fields: Any) -> dict[str, Any]:
    return llm_arguments(options(mode="llmapi", **fields), "/m", "/d")


def test_sizes_and_cache_reach_the_llm_class() -> None:
    given = arguments(
        max_batch_size=24,
        max_input_len=1000,
        max_seq_len=1200,
        max_num_tokens=2048,
        tensor_parallel=2,
        dtype="bfloat16",
        chunked_context=False,
        kv_cache={
            "dtype": "fp8",
            "free_gpu_memory_fraction": 0.8,
            "enable_block_reuse": False,
            "tokens_per_block": 64,
        },
    )
    assert given == {
        "model": "/m",
        "dtype": "bfloat16",
        "tensor_parallel_size": 2,
        "max_batch_size": 24,
        "max_input_len": 1000,
        "max_seq_len": 1200,
        "max_num_tokens": 2048,
        "enable_chunked_prefill": False,
        "kv_cache_config": {
            "dtype": "fp8",
            "free_gpu_memory_fraction": 0.8,
            "enable_block_reuse": False,
            "tokens_per_block": 64,
        },
        "cuda_graph_config": {"max_batch_size": 24, "enable_padding": True},
        "disable_overlap_scheduler": False,
    }


@pytest.mark.parametrize(
    ("speculative", "config", "overlap_off"),
    [
        (
            {"method": "draft_target", "draft_model": "hf:o/n", "max_draft_len": 3},
            {"decoding_type": "DraftTarget", "max_draft_len": 3, "speculative_model": "/d"},
            True,
        ),
        (
            {"method": "ngram", "max_draft_len": 5, "max_matching_ngram_size": 4},
            {"decoding_type": "NGram", "max_draft_len": 5, "max_matching_ngram_size": 4},
            True,
        ),
        (
            {"method": "eagle", "draft_model": "hf:o/n"},
            {"decoding_type": "Eagle", "max_draft_len": 4, "speculative_model": "/d", "eagle3_one_model": True},
            False,
        ),
        (
            {"method": "eagle", "draft_model": "hf:o/n", "one_model": False},
            {"decoding_type": "Eagle", "max_draft_len": 4, "speculative_model": "/d", "eagle3_one_model": False},
            True,
        ),
    ],
)
def test_speculation_is_named_as_yaml_names_it(
    speculative: dict[str, Any], config: dict[str, Any], overlap_off: bool
) -> None:
    given = arguments(speculative=speculative)
    assert given["speculative_config"] == config
    assert given["disable_overlap_scheduler"] is overlap_off
    check_llm_args(given)
