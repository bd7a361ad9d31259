"""Mode llmapi: what ``tensorrt_llm.LLM`` is called with, beside the paths and what the runtime adds."""

from collections.abc import Mapping
from typing import Any

from slipstream.engines.tensorrt_llm.contract import check_llm_args
from slipstream.engines.tensorrt_llm.options import SpeculativeOptions, TensorRtLlmOptions


def llm_arguments(options: TensorRtLlmOptions, model: str, draft: str | None = None) -> dict[str, Any]:
    """Keyword arguments of ``LLM``, or the same as YAML for ``trtllm-serve --extra_llm_api_options``.

    Args:
        model: folder of the exported checkpoint; its ``hf_quant_config.json`` says how it is quantized.
        draft: folder of the draft model, where the speculation has one.

    Raises:
        ContractViolation: 1.2.1 would refuse them.
    """
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": options.dtype,
        "tensor_parallel_size": options.tensor_parallel,
        "max_batch_size": options.max_batch_size,
        "max_input_len": options.max_input_len,
        "max_seq_len": options.max_seq_len,
        "max_num_tokens": options.max_num_tokens,
        "enable_chunked_prefill": options.chunked_context,
        "kv_cache_config": {
            "dtype": options.kv_cache.dtype,
            "free_gpu_memory_fraction": options.kv_cache.free_gpu_memory_fraction,
            "enable_block_reuse": options.kv_cache.enable_block_reuse,
            "tokens_per_block": options.kv_cache.tokens_per_block,
        },
        # Every batch size that can occur, so that no step falls back to launching its kernels one by one.
        "cuda_graph_config": {"max_batch_size": options.max_batch_size, "enable_padding": True},
        "disable_overlap_scheduler": options.speculative.runs_two_models,
    }
    if options.speculative.method != "none":
        arguments["speculative_config"] = _speculation(options.speculative, draft)
    check_llm_args(arguments)
    return arguments


def _speculation(speculative: SpeculativeOptions, draft: str | None) -> Mapping[str, Any]:
    length = {"max_draft_len": speculative.max_draft_len}
    if speculative.method == "ngram":
        ngram = {"max_matching_ngram_size": speculative.max_matching_ngram_size}
        return {"decoding_type": "NGram", **length, **ngram}
    if speculative.method == "eagle":
        one_model = {"eagle3_one_model": speculative.one_model}
        return {"decoding_type": "Eagle", **length, "speculative_model": draft, **one_model}
    return {"decoding_type": "DraftTarget", **length, "speculative_model": draft}


__all__ = ["llm_arguments"]
