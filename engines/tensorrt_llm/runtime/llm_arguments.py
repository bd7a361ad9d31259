"""What ``tensorrt_llm.LLM`` is called with: the engine's own arguments, its paths, and what our runtime needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipstream.engines.tensorrt_llm.contract import check_llm_args
from slipstream.engines.tensorrt_llm.runtime.served import DRAFT, TARGET, ServedEngine

# The argument object of each key that is a section, and of each kind of speculation.
_OBJECTS = {"kv_cache_config": "KvCacheConfig", "cuda_graph_config": "CudaGraphConfig"}
_SPECULATION = {
    "DraftTarget": "DraftTargetDecodingConfig",
    "NGram": "NGramDecodingConfig",
    "Eagle": "EagleDecodingConfig",
}


def llm_arguments(engine_dir: Path, engine: ServedEngine, tokenizer_dir: Path | None) -> dict[str, Any]:
    """The arguments as plain data, checked against 1.2.1.

    Args:
        tokenizer_dir: what grammars are compiled for (see `write_tokenizer_folder`); None where there are none.

    Raises:
        InputError: 1.2.1 has no such argument or takes no such value.
    """
    arguments: dict[str, Any] = {**engine.llm_arguments, "model": str(engine_dir / TARGET)}
    arguments["enable_iter_perf_stats"] = True
    speculation = dict(arguments.get("speculative_config") or {})
    if "speculative_model" in speculation:
        arguments["speculative_config"] = {**speculation, "speculative_model": str(engine_dir / DRAFT)}
    if speculation:
        arguments["return_perf_metrics"] = True
    if tokenizer_dir is None:
        arguments["skip_tokenizer_init"] = True
    else:
        arguments |= {"tokenizer": str(tokenizer_dir), "guided_decoding_backend": "xgrammar"}
    check_llm_args(arguments)
    return arguments


def as_objects(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` with their sections as the library's own objects, which check themselves once more."""
    from tensorrt_llm import llmapi

    objects = dict(arguments)
    for key, name in _OBJECTS.items():
        if objects.get(key) is not None:
            objects[key] = getattr(llmapi, name)(**objects[key])
    if objects.get("speculative_config"):
        fields = dict(objects["speculative_config"])
        objects["speculative_config"] = getattr(llmapi, _SPECULATION[fields.pop("decoding_type")])(**fields)
    return objects
