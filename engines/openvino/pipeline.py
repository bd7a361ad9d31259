"""The border to `openvino_genai`: its pipeline, and one request in its terms. Untyped beyond here."""

import json
from collections.abc import Collection
from pathlib import Path
from secrets import randbits
from tempfile import TemporaryDirectory
from typing import Any

from slipstream import InputError
from slipstream.engines.openvino.telemetry import switch_off_telemetry
from slipstream.engines.openvino.vocabulary import token_bytes, vocabulary_model, with_end
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions

# Prompt tokens a step prefills at most. A cancel and every running stream wait for a step, so it has to be well under
# 0.2 s on two cores; the library's default of 256 is not when the machine does anything else.
PREFILL_TOKENS = 128
# Positions per KV block on a CPU.
BLOCK_TOKENS = 32
# An 8-bit cache keeps a 32-bit scale and a 32-bit zero point: for keys by channel and block, for values by position.
_SCALE_BYTES = 8


class EngineUnreadable(InputError):
    """The folder is no engine of this runtime."""


class EngineConfig:
    """What ``config.json`` and ``generation_config.json`` of an engine say that serving it needs.

    ``kv_blocks`` is how many KV blocks, keys and values of all layers, fit into the cache that ``options`` grant, and
    ``capacity_tokens`` how many positions one sequence can have: the model's context, or all of that cache.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        try:
            config = json.loads((engine_dir / "config.json").read_text(encoding="utf-8"))
            generation = json.loads((engine_dir / "generation_config.json").read_text(encoding="utf-8"))
            heads: int = config["num_attention_heads"]
            key_value_heads: int = config.get("num_key_value_heads") or heads
            head_dim: int = config.get("head_dim") or config["hidden_size"] // heads
            scale_bytes = _SCALE_BYTES * (head_dim + BLOCK_TOKENS)
            self.vocabulary_size: int = config["vocab_size"]
            context_length: int = config["max_position_embeddings"]
            block_bytes: int = (
                config["num_hidden_layers"] * key_value_heads * (2 * BLOCK_TOKENS * head_dim + scale_bytes)
            )
        except (OSError, ValueError, KeyError) as error:
            raise EngineUnreadable(f"{engine_dir} is not an OpenVINO engine: {error!r}", "slipstream build") from error
        self.kv_blocks = max(2, options.kv_cache_bytes // block_bytes)
        self.capacity_tokens = min(context_length, self.kv_blocks * BLOCK_TOKENS)
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        self.eos_token_ids: frozenset[int] = frozenset([eos] if isinstance(eos, int) else eos or ())
        if not self.eos_token_ids:
            raise EngineUnreadable(f"{engine_dir} names no end-of-sequence token", "set eos_token_id in the checkpoint")


class Generation:
    """A request in the pipeline."""

    def __init__(self, handle: Any, eos_token_ids: Collection[int]) -> None:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        self._handle = handle
        self._eos_token_ids = eos_token_ids
        # By number: comparing the library's enums takes five times as long, once per token.
        self._reasons = {int(GenerationFinishReason.LENGTH): "length", int(GenerationFinishReason.STOP): "stop"}
        self._ignored = GenerationStatus.IGNORED

    def read(self) -> tuple[list[int], str | None, str]:
        """New tokens without the end-of-sequence ones, the finish reason once there is one, and an error."""
        tokens: list[int] = []
        reason: str | None = None
        if not self._handle.can_read():  # `read` would wait for tokens
            ignored = self._handle.get_status() == self._ignored
            return ([], "error", "the KV cache has no room for this request") if ignored else ([], None, "")
        while self._handle.can_read():
            for output in self._handle.read().values():
                tokens += [token for token in output.generated_ids if token not in self._eos_token_ids]
                reason = self._reasons.get(int(output.finish_reason))
        return tokens, reason, ""

    def cancel(self) -> None:
        """The next step drops it and frees its KV blocks."""
        self._handle.cancel()


def load_pipeline(engine_dir: Path, options: RuntimeOptions, config: EngineConfig) -> Any:
    """A `ContinuousBatchingPipeline` with prefix caching and split-fuse.

    Raises:
        EngineUnreadable: the tokenizer of ``options`` is no byte-level one, or of another model.
    """
    switch_off_telemetry()
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = config.kv_blocks
    scheduler.max_num_seqs = options.max_concurrency
    scheduler.dynamic_split_fuse = True
    scheduler.max_num_batched_tokens = max(PREFILL_TOKENS, options.max_concurrency)
    scheduler.enable_prefix_caching = True
    properties: dict[str, Any] = {"KV_CACHE_PRECISION": "u8", "PERFORMANCE_HINT": "LATENCY"}
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.tokenizer is None:
        return ContinuousBatchingPipeline(str(engine_dir), scheduler, "CPU", properties)
    tokenizer = _load_tokenizer(options.tokenizer, config)
    return ContinuousBatchingPipeline(str(engine_dir), tokenizer, scheduler, "CPU", **properties)


def _load_tokenizer(path: Path, config: EngineConfig) -> Any:
    """What the pipeline compiles grammars for: the library takes the text of every token from a detokenizer."""
    from openvino import save_model
    from openvino_genai import Tokenizer

    try:
        vocabulary = token_bytes(path, config.vocabulary_size, config.eos_token_ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineUnreadable(f"{path} is no tokenizer for grammars: {error!r}", "slipstream build") from error
    with TemporaryDirectory() as folder:  # the library reads a detokenizer from files only
        save_model(vocabulary_model(vocabulary), Path(folder) / "openvino_detokenizer.xml")
        return Tokenizer(folder)


def add_request(pipeline: Any, number: int, request: GenerationRequest, eos_token_ids: Collection[int]) -> Generation:
    """Hand a request to ``pipeline``, which takes it up in its next step."""
    import numpy as np
    from openvino import Tensor

    prompt = Tensor(np.asarray([request.prompt_ids], dtype=np.int64))
    handle = pipeline.add_request(number, prompt, generation_config(request, eos_token_ids))
    return Generation(handle, eos_token_ids)


def generation_config(request: GenerationRequest, eos_token_ids: Collection[int]) -> Any:
    """``request`` as a `GenerationConfig`.

    Raises:
        ValueError: its grammar has no rule ``root``.
    """
    from openvino_genai import GenerationConfig, StructuredOutputConfig

    sampling = request.sampling
    config = GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.stop_token_ids = set(eos_token_ids)
    config.eos_token_id = min(eos_token_ids)  # from the model's own file otherwise, and refused where that has none
    if sampling.ignore_eos:
        # Forbids the end-of-sequence tokens, where the library's own `ignore_eos` would generate and count them.
        config.min_new_tokens = sampling.max_tokens
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.rng_seed = sampling.seed if sampling.seed is not None else randbits(31)
    if request.grammar:
        config.structured_output_config = StructuredOutputConfig(grammar=with_end(request.grammar))
    return config
