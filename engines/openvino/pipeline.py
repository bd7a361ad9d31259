"""The border to `openvino_genai`: loading its pipeline, and one request in its terms. Untyped beyond here."""

import json
from collections.abc import Collection
from pathlib import Path
from secrets import randbits
from typing import Any

from slipstream import InputError
from slipstream.engines.openvino.telemetry import switch_off_telemetry
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions, Sampling

# Positions per KV block on a CPU.
BLOCK_TOKENS = 32
# An 8-bit cache keeps a 32-bit scale and a 32-bit zero point beside each head's vector.
_SCALE_BYTES = 8


class EngineUnreadable(InputError):
    """The folder is no engine of this runtime."""


class EngineConfig:
    """What ``config.json`` and ``generation_config.json`` of an engine say that serving it needs.

    ``block_bytes`` is the size of one KV block, keys and values of all layers.
    """

    def __init__(self, engine_dir: Path) -> None:
        try:
            config = json.loads((engine_dir / "config.json").read_text(encoding="utf-8"))
            generation = json.loads((engine_dir / "generation_config.json").read_text(encoding="utf-8"))
            heads: int = config["num_attention_heads"]
            key_value_heads: int = config.get("num_key_value_heads") or heads
            vector_bytes: int = (config.get("head_dim") or config["hidden_size"] // heads) + _SCALE_BYTES
            self.vocabulary_size: int = config["vocab_size"]
            self.context_length: int = config["max_position_embeddings"]
            self.block_bytes = 2 * BLOCK_TOKENS * config["num_hidden_layers"] * key_value_heads * vector_bytes
        except (OSError, ValueError, KeyError) as error:
            raise EngineUnreadable(f"{engine_dir} is not an OpenVINO engine: {error!r}", "slipstream build") from error
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        self.eos_token_ids: frozenset[int] = frozenset([eos] if isinstance(eos, int) else eos or ())


def load_pipeline(engine_dir: Path, options: RuntimeOptions, blocks: int) -> Any:
    """A `ContinuousBatchingPipeline` with ``blocks`` KV blocks, prefix caching and split-fuse."""
    switch_off_telemetry()
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_seqs = options.max_concurrency
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties: dict[str, Any] = {"KV_CACHE_PRECISION": "u8", "PERFORMANCE_HINT": "LATENCY"}
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    return ContinuousBatchingPipeline(str(engine_dir), scheduler, "CPU", properties)


def add_request(pipeline: Any, number: int, request: GenerationRequest, eos_token_ids: Collection[int]) -> Any:
    """Hand ``request`` to ``pipeline``; returns its generation handle."""
    import numpy as np
    from openvino import Tensor

    prompt = Tensor(np.asarray([request.prompt_ids], dtype=np.int64))
    return pipeline.add_request(number, prompt, _generation_config(request.sampling, eos_token_ids))


def _generation_config(sampling: Sampling, eos_token_ids: Collection[int]) -> Any:
    from openvino_genai import GenerationConfig

    config = GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.stop_token_ids = set(eos_token_ids)
    if sampling.ignore_eos:
        # Forbids the end-of-sequence tokens, where the library's own `ignore_eos` would generate and count them.
        config.min_new_tokens = sampling.max_tokens
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.rng_seed = sampling.seed if sampling.seed is not None else randbits(31)
    return config
