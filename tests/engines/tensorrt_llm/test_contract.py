"""What TensorRT-LLM 1.2.1 would refuse, its recorded contract refuses first: one fault at a time."""

import copy
from typing import Any

import pytest

from slipstream.engines.tensorrt_llm.contract import (
    ContractViolation,
    check_checkpoint_config,
    check_command,
    check_engine_config,
    check_hf_quant_config,
    check_llm_args,
    facts,
)

BUILD = "trtllm-build --checkpoint_dir c --output_dir o --max_batch_size 8 --max_input_len 100 --max_seq_len 200"
EXTERNAL = f"{BUILD} --speculative_decoding_mode draft_tokens_external"
CONVERT = "python3 /app/tensorrt_llm/examples/models/core/llama/convert_checkpoint.py --model_dir m --output_dir o"
QUANTIZE = "python3 /app/tensorrt_llm/examples/quantization/quantize.py --model_dir m --output_dir o --qformat int4_awq"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{BUILD} --opt_batch_size 8", "no flag '--opt_batch_size'"),
        (f"{BUILD} --max_batch_size 9", "--max_batch_size is given twice"),
        (f"{BUILD} --paged_kv_cache enable", "deprecates --paged_kv_cache"),
        (f"{BUILD} --max_num_tokens many", "--max_num_tokens: invalid literal"),
        (f"{BUILD} --max_beam_width 0", "--max_beam_width: 0 is out of range"),
        (f"{BUILD} --kv_cache_type 1", "'1' is none of continuous, paged, disabled"),
        (f"{BUILD} --use_paged_context_fmha true", "'true' is none of enable, disable"),
        (f"{BUILD} --gemm_plugin fp4", "'fp4' is none of"),
        (f"{BUILD} --max_draft_len", "--max_draft_len has no value"),
        (f"{BUILD} --max_draft_len --dry_run", "--max_draft_len has no value"),
        (f"{BUILD} stray", "no flag 'stray'"),
        ("trtllm-build --checkpoint_dir c", "--output_dir is missing"),
        (f"{BUILD} --max_num_tokens 4", "--max_batch_size 8 exceeds --max_num_tokens 4"),
        (f"{BUILD} --opt_num_tokens 9000", "--opt_num_tokens exceeds"),
        ("trtllm-build --checkpoint_dir c --output_dir o --max_seq_len 1024", "leaves no token"),
        (f"{BUILD} --kv_cache_type continuous", "needs --kv_cache_type paged"),
        (f"{BUILD} --context_fmha disable", "needs --context_fmha enable"),
        (f"{BUILD} --user_buffer enable", "needs --reduce_fusion enable"),
        (f"{BUILD} --speculative_decoding_mode ngram --max_draft_len 3", "'ngram' is none of draft_tokens_external"),
        (EXTERNAL, "needs --max_draft_len above 0"),
        (f"{BUILD} --max_draft_len 4", "means nothing without --speculative_decoding_mode"),
        (
            f"{EXTERNAL} --max_draft_len 4 --use_paged_context_fmha disable",
            "needs --use_paged_context_fmha enable",
        ),
        (
            f"{EXTERNAL} --max_draft_len 4 --max_beam_width 2",
            "needs --max_beam_width 1",
        ),
        (f"{CONVERT} --weight_only_precision int4_gptq", "means nothing without --use_weight_only"),
        (f"{CONVERT} --group_size 0 --use_weight_only", "--group_size: 0 is out of range"),
        (f"{QUANTIZE}", "lowers --calib_size to 32"),
        (f"{QUANTIZE} --calib_size 32 --device cpu", "needs a CUDA device"),
        (f"{QUANTIZE} --calib_size 32 --export_format hf", "no flag '--export_format'"),
        ("trtllm-serve m", "trtllm-serve is no program"),
    ],
)
def test_a_command_that_the_release_would_not_take(line: str, said: str) -> None:
    with pytest.raises(ContractViolation, match=said.replace("[", r"\[")):
        check_command(line.split())


def test_an_empty_path_is_no_value() -> None:
    with pytest.raises(ContractViolation, match="--output_dir: it is empty"):
        check_command(["trtllm-build", "--checkpoint_dir", "c", "--output_dir", ""])


@pytest.mark.parametrize(
    "line",
    [
        BUILD,
        f"{EXTERNAL} --max_draft_len 4 --gather_generation_logits",
        f"{CONVERT} --use_weight_only --weight_only_precision int4_gptq --group_size 128",
        f"{QUANTIZE} --calib_size 32",
    ],
)
def test_a_command_that_it_takes(line: str) -> None:
    values = check_command(line.split())
    assert len(values) == line.count("--")


def args(**changed: Any) -> dict[str, Any]:
    return {"model": "/m", "max_batch_size": 16, "max_num_tokens": 2048, **changed}


def draft(**changed: Any) -> dict[str, Any]:
    config = {"decoding_type": "DraftTarget", "max_draft_len": 4, "speculative_model": "/d", **changed}
    return {"speculative_config": config, "disable_overlap_scheduler": True}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_batch_size": 8}, "model: Field required"),
        (args(quant_config={}), "quant_config: Extra inputs"),
        (args(build_config={}), "build_config: Extra inputs"),
        (args(max_batch_size="16"), "max_batch_size: Input should be a valid integer"),
        (args(trust_remote_code=1), "trust_remote_code: Input should be a valid boolean"),
        (args(max_batch_size=0), "max_batch_size has to be above 0"),
        (args(max_batch_size=4096), "max_batch_size 4096 exceeds max_num_tokens 2048"),
        (args(max_batch_size=9000, max_num_tokens=None), ""),
        (args(stream_interval=0), "stream_interval: Input should be greater than 0"),
        (args(guided_decoding_backend="outlines"), "guided_decoding_backend: Input should be 'xgrammar'"),
        (args(kv_cache_config={"free_gpu_memory_fraction": 1.5}), "free_gpu_memory_fraction: Input should be less"),
        (args(kv_cache_config={"reuse": True}), "kv_cache_config.reuse: Extra inputs"),
        (args(kv_cache_config={"dtype": "int8"}), "kv_cache_config.dtype 'int8' has no effect"),
        (args(kv_cache_config={"max_attention_window": []}), "max_attention_window"),
        (args(kv_cache_config={"max_attention_window": [0]}), "max_attention_window.0"),
        (args(cuda_graph_config={"batch_sizes": [1, 2], "max_batch_size": 8}), "not both"),
        (args(speculative_config={}), "needs a decoding_type"),
        (args(**draft(decoding_type="Draft_Target")), "decoding_type 'Draft_Target' does not exist"),
        (args(**draft(decoding_type="Eagle3")), "decoding_type 'Eagle3' does not exist"),
        (args(**draft(decoding_type=["DraftTarget"])), r"decoding_type \['DraftTarget'\] does not exist"),
        (args(**draft(decoding_type="Lookahead")), "pytorch backend refuses decoding_type Lookahead"),
        (args(**draft(decoding_type="Medusa")), "pytorch backend refuses decoding_type Medusa"),
        (args(**draft(max_draft_len=0)), "DraftTarget needs max_draft_len"),
        (args(**draft(max_draft_len=-1)), "DraftTarget needs max_draft_len"),
        (args(**draft(speculative_model=None)), "DraftTarget needs speculative_model"),
        (args(**draft(draft_model="/d")), "draft_model: Extra inputs"),
        (args(**draft(draft_len_schedule={"2": 4})), "draft_len_schedule has to give"),
        (args(**draft(draft_len_schedule={"1": 4, "8": 5})), "draft_len_schedule has to give"),
        (args(**{**draft(), "disable_overlap_scheduler": False}), "set disable_overlap_scheduler"),
        (args(max_beam_width=4, **draft()), "speculation needs max_beam_width 1"),
        (
            args(speculative_config={"decoding_type": "NGram", "max_draft_len": 4}, disable_overlap_scheduler=True),
            "NGram needs max_matching_ngram_size",
        ),
        (
            args(
                speculative_config={
                    "decoding_type": "Eagle",
                    "max_draft_len": 4,
                    "speculative_model": "/e",
                    "eagle3_one_model": False,
                }
            ),
            "set disable_overlap_scheduler",
        ),
    ],
)
def test_arguments_that_the_llm_class_would_not_take(given: dict[str, Any], said: str) -> None:
    if not said:
        check_llm_args(given)
        return
    with pytest.raises(ContractViolation, match=said):
        check_llm_args(given)


def test_arguments_that_it_takes() -> None:
    check_llm_args(args(kv_cache_config={"dtype": "fp8", "free_gpu_memory_fraction": 1}, **draft()))
    check_llm_args(args(speculative_config=None))
    eagle = {"decoding_type": "Eagle", "max_draft_len": 3, "speculative_model": "/e", "eagle3_one_model": True}
    check_llm_args(args(speculative_config=eagle))


def test_what_is_no_json_is_no_argument() -> None:
    with pytest.raises(ContractViolation, match="cannot be written as JSON"):
        check_llm_args(args(model=object()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (args(kv_cache_config={"dtype": "fp8"}), "has to stay auto"),
        (args(speculative_config=draft()["speculative_config"]), "tensorrt backend refuses decoding_type"),
        (args(disable_overlap_scheduler=True), "disable_overlap_scheduler: Extra inputs"),
    ],
)
def test_the_engine_backend_refuses_other_things(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractViolation, match=said):
        check_llm_args(given, backend="tensorrt")


CHECKPOINT: dict[str, Any] = {
    "architecture": "LlamaForCausalLM",
    "dtype": "bfloat16",
    "vocab_size": 320,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
    "quantization": {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": None,
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "exclude_modules": ["lm_head"],
    },
}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("architecture", ..., "lacks architecture"),
        ("runtime_defaults", {"kv_cache_config": {}}, "runtime_defaults has to be empty"),
        ("mapping.world_size", 1, "world_size 1 is not"),
        ("num_attention_heads", 3, "3 attention heads do not divide"),
        ("quantization.quant_algo", "AWQ", "quant_algo: Input should be"),
        ("quantization.kv_cache_quant_algo", "FP4", "kv_cache_quant_algo: Input should be"),
        ("quantization.group_size", "128", "group_size: Input should be a valid integer"),
        ("quantization.group_size", 32, "group_size of 64 or 128, not 32"),
        ("quantization.pre_quant_scale", False, "needs pre_quant_scale: true"),
        ("quantization.has_zero_point", True, "needs has_zero_point: false"),
        ("quantization.zero_point", True, "zero_point: Extra inputs"),
    ],
)
def test_a_checkpoint_that_the_builder_would_not_read(place: str, value: Any, said: str) -> None:
    config = copy.deepcopy(CHECKPOINT)
    check_checkpoint_config(config)
    *outer, name = place.split(".")
    inner = config[outer[0]] if outer else config
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    with pytest.raises(ContractViolation, match=said):
        check_checkpoint_config(config)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"quant_algo": None}, "lacks quantization.quant_algo"),
        ({"quant_algo": "W4A16_GPTQ", "has_zero_point": True, "pre_quant_scale": False}, "has no W4A16_GPTQ"),
        ({"kv_cache_quant_algo": "INT8"}, "has no INT8 KV cache"),
        ({"ignore": []}, "ignore: Extra inputs"),
    ],
)
def test_a_checkpoint_that_the_pytorch_backend_would_not_read(changed: dict[str, Any], said: str) -> None:
    good = {"producer": {"name": "modelopt", "version": "0.37.0"}, "quantization": CHECKPOINT["quantization"]}
    check_hf_quant_config(good)
    with pytest.raises(ContractViolation, match=said):
        check_hf_quant_config({**good, "quantization": {**CHECKPOINT["quantization"], **changed}})
    with pytest.raises(ContractViolation, match="lacks producer"):
        check_hf_quant_config({"quantization": CHECKPOINT["quantization"]})


def test_an_engine_of_another_release_is_refused() -> None:
    engine = {"version": "1.2.1", "pretrained_config": {}, "build_config": {}}
    check_engine_config(engine)
    with pytest.raises(ContractViolation, match=r"built by TensorRT-LLM 1\.1\.0, not 1\.2\.1"):
        check_engine_config({**engine, "version": "1.1.0"})
    with pytest.raises(ContractViolation, match="lacks build_config"):
        check_engine_config({"version": "1.2.1", "pretrained_config": {}})


def test_the_facts_name_the_release_and_the_container() -> None:
    read_at = facts("commands")["read_at"]
    assert read_at["tensorrt_llm"] == "1.2.1"
    assert read_at["container"] == "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
