"""One request in TensorRT-LLM's terms: what the LLM API and the native backend are told of a `Sampling`."""

from collections.abc import Mapping
from hashlib import blake2b
from secrets import randbits
from typing import Any

import numpy as np

from slipstream.engines.protocols import GenerationRequest, Sampling
from slipstream.engines.tensorrt_llm.runtime.contract import check_arguments, check_tensors
from slipstream.engines.tensorrt_llm.runtime.served import ServedEngine

_SEED_BITS = 63
_SEEDS: int = 2**_SEED_BITS
Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


def sampling_arguments(request: GenerationRequest, engine: ServedEngine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of ``SamplingParams`` and of ``GuidedDecodingParams``, the latter empty without a grammar.

    Raises:
        ContractViolation: 1.2.1 has no such argument or takes no such value.
    """
    sampling, (end, *more_ends) = request.sampling, engine.eos_token_ids
    arguments: dict[str, Any] = {"end_id": end, "pad_id": end, "max_tokens": sampling.max_tokens, "detokenize": False}
    if sampling.ignore_eos:
        # Forbids the ends, where the library's own `ignore_eos` would generate and count them.
        arguments["min_tokens"] = sampling.max_tokens
        arguments |= {"bad_token_ids": more_ends} if more_ends else {}
    elif more_ends:
        arguments["stop_token_ids"] = more_ends
    if sampling.temperature > 0:
        arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed_of(sampling)}
    else:
        arguments["top_k"] = 1
    if engine.options.speculative.method != "none":
        arguments["return_perf_metrics"] = True  # how many draft tokens were accepted
    check_arguments("SamplingParams", arguments)
    guide = {"grammar": request.grammar} if request.grammar else {}
    if guide:
        check_arguments("GuidedDecodingParams", guide)
    return arguments, guide


def seed_of(sampling: Sampling, position: int = 0) -> int:
    """The seed of a request; another one for each ``position`` at which a generation is asked to go on.

    A request that starts anew in the middle of a generation would repeat the random numbers of its beginning. Without
    a seed it is random: the library's default is a constant.
    """
    if sampling.seed is None:
        return randbits(_SEED_BITS)
    if position == 0:
        return sampling.seed % _SEEDS
    digest = blake2b(f"{sampling.seed} {position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _SEEDS


def native_tensors(
    token_ids: list[int],
    new_tokens: int,
    request: GenerationRequest,
    engine: ServedEngine,
    *,
    position: int = 0,
    draft: list[int] | None = None,
    streaming: bool = False,
) -> Tensors:
    """The inputs of the native backend that continue ``token_ids`` by ``new_tokens``, shaped as a batch of one.

    Args:
        position: how many tokens of the generation ``token_ids`` end with.
        draft: what the target has to verify.

    Raises:
        ContractViolation: the backend has no such tensor or takes no such value.
    """
    sampling, (end, *more_ends) = request.sampling, engine.eos_token_ids
    tensors: Tensors = {
        "input_ids": _batch(token_ids, np.int32),
        "input_lengths": _batch([len(token_ids)], np.int32),
        "request_output_len": _batch([new_tokens], np.int32),
        "end_id": _batch([end], np.int32),
        "pad_id": _batch([end], np.int32),
        "beam_width": _batch([1], np.int32),
        "exclude_input_in_output": _batch([True], np.bool_),
        "streaming": _batch([streaming], np.bool_),
    }
    if sampling.ignore_eos:
        tensors["min_tokens"] = _batch([new_tokens], np.int32)
    if more_ends:
        tensors["bad_words_list" if sampling.ignore_eos else "stop_words_list"] = _words(more_ends)
    if sampling.temperature > 0:
        tensors["temperature"] = _batch([sampling.temperature], np.float32)
        tensors["runtime_top_p"] = _batch([sampling.top_p], np.float32)
        tensors["seed"] = _batch([seed_of(sampling, position)], np.uint64)
    else:
        tensors["runtime_top_k"] = _batch([1], np.int32)
    if request.grammar:
        tensors["guided_decoding_guide_type"] = _batch([b"ebnf_grammar"], np.object_)
        tensors["guided_decoding_guide"] = _batch([request.grammar.encode()], np.object_)
    if draft:
        tensors["draft_input_ids"] = _batch(draft, np.int32)
    return checked(tensors)


def stop_tensors() -> Tensors:
    """The inputs that have the backend drop the request of the same id; it demands the mandatory ones all the same."""
    return checked({
        "input_ids": _batch([0], np.int32),
        "input_lengths": _batch([1], np.int32),
        "request_output_len": _batch([1], np.int32),
        "stop": _batch([True], np.bool_),
    })  # fmt: skip


def checked(tensors: Tensors) -> Tensors:
    check_tensors("inputs", {name: (triton_type(value), value.shape) for name, value in tensors.items()})
    return tensors


def triton_type(value: np.ndarray[Any, np.dtype[Any]]) -> str:
    """Triton's name for a numpy type: ``INT32``, ``FP32``, ``BYTES``."""
    return _TRITON_TYPES[value.dtype.name]


_TRITON_TYPES: Mapping[str, str] = {
    "bool": "BOOL", "int32": "INT32", "int64": "INT64", "uint64": "UINT64", "float32": "FP32", "object": "BYTES",
}  # fmt: skip


def _batch(values: list[Any], dtype: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return np.array([values], dtype)


def _words(tokens: list[int]) -> np.ndarray[Any, np.dtype[Any]]:
    """Words of one token each, as the backend lists words: their tokens in a row above the offset of each end."""
    return np.array([[tokens, list(range(1, len(tokens) + 1))]], np.int32)
