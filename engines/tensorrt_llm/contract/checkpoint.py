"""Are the files beside the weights what 1.2.1's loaders read: ``config.json`` and ``hf_quant_config.json``?"""

from collections.abc import Mapping
from typing import Any

from slipstream.engines.tensorrt_llm.contract.facts import ContractViolation, facts, require, section

# What each algorithm demands of its QuantConfig; quant_config_effects of convert_checkpoint.py, and what ModelOpt
# writes for AWQ.
_SCALES: Mapping[str, Mapping[str, bool]] = {
    "W4A16_AWQ": {"has_zero_point": False, "pre_quant_scale": True},
    "W4A16_GPTQ": {"has_zero_point": True, "pre_quant_scale": False},
}
GROUP_SIZES = (64, 128)  # the groupwise GEMM plugin is built for these


def check_checkpoint_config(given: Mapping[str, Any]) -> None:
    """Refuse a ``config.json`` that is no TensorRT-LLM checkpoint's, or whose quantization contradicts itself.

    Raises:
        ContractViolation: a missing field, an unknown one under ``quantization``, an algorithm that does not exist,
            ``runtime_defaults`` (the engine loader of 1.2.1 trips over it), or a mapping that is not its world's size.
    """
    missing = [name for name in facts("quantization")["checkpoint"]["required"] if name not in given]
    if missing:
        raise ContractViolation(f"the checkpoint's config.json lacks {', '.join(missing)}")
    if given.get("runtime_defaults"):
        raise ContractViolation("runtime_defaults has to be empty: the engine loader of 1.2.1 fails on it")
    mapping = given.get("mapping", {})
    ranks = mapping.get("tp_size", 1) * mapping.get("pp_size", 1)
    if mapping.get("world_size", 1) != ranks:
        raise ContractViolation(f"mapping.world_size {mapping.get('world_size')} is not tp_size * pp_size = {ranks}")
    heads, kv_heads = given["num_attention_heads"], given.get("num_key_value_heads") or given["num_attention_heads"]
    if heads % mapping.get("tp_size", 1) or heads % kv_heads:
        raise ContractViolation(f"{heads} attention heads do not divide among tp_size or {kv_heads} KV heads")
    check_quantization(given.get("quantization") or {})


def check_hf_quant_config(given: Mapping[str, Any]) -> None:
    """Refuse an ``hf_quant_config.json`` that the PyTorch backend's loader would not take.

    Raises:
        ContractViolation: as `check_checkpoint_config`; GPTQ, which that backend lacks; an INT8 KV cache.
    """
    known = facts("quantization")
    missing = [name for name in known["hf_quant_config"]["required"] if name not in given]
    if missing:
        raise ContractViolation(f"hf_quant_config.json lacks {', '.join(missing)}")
    quantization = given["quantization"]
    if not quantization.get("quant_algo"):
        raise ContractViolation("hf_quant_config.json lacks quantization.quant_algo")
    check_quantization(quantization)
    if quantization["quant_algo"] == "W4A16_GPTQ":
        raise ContractViolation("the pytorch backend has no W4A16_GPTQ")
    cache = quantization.get("kv_cache_quant_algo")
    if cache is not None and cache not in known["hf_quant_config"]["kv_cache_quant_algos"]:
        raise ContractViolation(f"the pytorch backend has no {cache} KV cache")


def check_engine_config(given: Mapping[str, Any]) -> None:
    """Refuse an engine directory's ``config.json`` that another release wrote.

    Raises:
        ContractViolation: a missing part, or a version that is not 1.2.1.
    """
    missing = [name for name in facts("quantization")["engine"]["required"] if name not in given]
    if missing:
        raise ContractViolation(f"the engine's config.json lacks {', '.join(missing)}")
    release = facts("commands")["read_at"]["tensorrt_llm"]
    if given["version"] != release:
        raise ContractViolation(f"the engine was built by TensorRT-LLM {given['version']}, not {release}")


def check_quantization(given: Mapping[str, Any]) -> None:
    """Refuse a ``quantization`` section with unknown names, or scales that its algorithm does not have.

    Raises:
        ContractViolation: with the field.
    """
    require(section("QuantConfig", facts("quantization")["QuantConfig"], {}), given)
    algorithm = given.get("quant_algo")
    for name, demanded in _SCALES.get(str(algorithm), {}).items():
        if given.get(name, False) is not demanded:
            raise ContractViolation(f"{algorithm} needs {name}: {str(demanded).lower()}")
    if algorithm in _SCALES and given.get("group_size", 128) not in GROUP_SIZES:
        raise ContractViolation(f"{algorithm} needs a group_size of 64 or 128, not {given['group_size']}")
