"""The border to `openvino_genai`: its pipeline, and one request in its terms. Untyped beyond here."""

import json
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from secrets import randbits
from tempfile import TemporaryDirectory
from typing import Any

from slipstream import InputError
from slipstream.engines.openvino.arithmetic import BLOCK_TOKENS, arithmetic_of
from slipstream.engines.openvino.speculation import Account, draft_folder, speculate, write_encoder
from slipstream.engines.openvino.telemetry import switch_off_telemetry
from slipstream.engines.openvino.vocabulary import token_bytes, vocabulary_model, with_end
from slipstream.engines.protocols import GenerationRequest, RuntimeOptions

# Prompt tokens a step prefills at most. A cancel and every running stream wait for a step, so it has to be well under
# 0.2 s on two cores; the library's default of 256 is not when the machine does anything else.
PREFILL_TOKENS = 128


class EngineUnreadable(InputError):
    """The folder is no engine of this runtime."""


class EngineConfig:
    """What ``config.json`` and ``generation_config.json`` of an engine say that serving it needs.

    ``kv_blocks`` is how many KV blocks, keys and values of all layers, fit into the cache that ``options`` grant; a
    draft has as many of its own in the same cache. ``capacity_tokens`` is how many positions one sequence can have: the
    model's context, or all of that cache but what a step of speculation may have beyond them.

    Raises:
        EngineUnreadable: ``engine_dir`` or the draft of ``options`` is no engine, or they have not one vocabulary.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        try:
            config = json.loads((engine_dir / "config.json").read_text(encoding="utf-8"))
            generation = json.loads((engine_dir / "generation_config.json").read_text(encoding="utf-8"))
            heads: int = config["num_attention_heads"]
            key_value_heads: int = config.get("num_key_value_heads") or heads
            head_dim: int = config.get("head_dim") or config["hidden_size"] // heads
            self.vocabulary_size: int = config["vocab_size"]
            context_length: int = config["max_position_embeddings"]
            self.arithmetic = arithmetic_of(options)
            block_bytes = self.arithmetic.block_bytes(config["num_hidden_layers"], key_value_heads, head_dim)
        except (OSError, ValueError, KeyError) as error:
            raise EngineUnreadable(
                f"{engine_dir} is not an OpenVINO engine: {error!r}", "slipstream build RECIPE"
            ) from error
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        self.eos_token_ids: frozenset[int] = frozenset([eos] if isinstance(eos, int) else eos or ())
        if not self.eos_token_ids:
            raise EngineUnreadable(f"{engine_dir} names no end-of-sequence token", "set eos_token_id in the checkpoint")
        self.block_bytes = block_bytes
        self.speculation = options.speculation
        if self.speculation is not None and self.reads_whole_prompts:
            block_bytes += self._draft_block_bytes(engine_dir, self.speculation.engine)
        self.kv_blocks = max(2, options.kv_cache_bytes // block_bytes)
        self.capacity_tokens = min(context_length, self.kv_blocks * BLOCK_TOKENS - self._beyond_tokens)

    @property
    def reads_whole_prompts(self) -> bool:
        """Whether a step never reads a part of a prompt.

        A draft that has read a prompt while its engine has read a part of it proposes too early, and the engine takes
        what it would not have picked (2026.4).
        """
        return self.speculation is not None and self.speculation.method == "draft"

    @property
    def _beyond_tokens(self) -> int:
        """Positions that a step may have beyond the last one that counts."""
        return self.speculation.tokens + 1 if self.speculation else 0

    def blocks_for(self, request: GenerationRequest) -> int:
        """KV blocks that ``request`` needs at most."""
        tokens = len(request.prompt_ids) + request.sampling.max_tokens + self._beyond_tokens
        return -(-tokens // BLOCK_TOKENS)

    def _draft_block_bytes(self, engine_dir: Path, draft_dir: Path | None) -> int:
        if draft_dir is None:
            raise EngineUnreadable(f"{engine_dir} is to have a draft, and none is named", "name the draft's engine")
        draft = EngineConfig(draft_dir, RuntimeOptions())
        if (draft.vocabulary_size, draft.eos_token_ids) != (self.vocabulary_size, self.eos_token_ids):
            raise EngineUnreadable(
                f"{draft_dir} is no draft for {engine_dir}: vocabularies of {draft.vocabulary_size} and "
                f"{self.vocabulary_size} tokens, or other end-of-sequence tokens",
                "make the draft from the same model: slipstream build RECIPE",
            )
        return draft.block_bytes


class Generation:
    """A request in the pipeline; ``account`` counts what was proposed for it, where somebody proposes."""

    def __init__(self, handle: Any, eos_token_ids: Collection[int], account: Account | None = None) -> None:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        self._handle = handle
        self._eos_token_ids = eos_token_ids
        self.account = account
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
                if self.account is not None and output.generated_ids:
                    self.account.step(output.generated_ids)
                tokens += [token for token in output.generated_ids if token not in self._eos_token_ids]
                reason = self._reasons.get(int(output.finish_reason))
        return tokens, reason, ""

    def cancel(self) -> None:
        """The next step drops it and frees its KV blocks."""
        self._handle.cancel()


def load_pipeline(engine_dir: Path, options: RuntimeOptions, config: EngineConfig) -> Any:
    """A `ContinuousBatchingPipeline` with prefix caching and split-fuse, and the speculation of ``options``.

    Raises:
        EngineUnreadable: the tokenizer of ``options`` is no byte-level one, or of another model.
    """
    switch_off_telemetry()
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig, draft_model

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = config.kv_blocks
    scheduler.max_num_seqs = options.max_concurrency
    scheduler.dynamic_split_fuse = True
    scheduler.max_num_batched_tokens = _step_tokens(options, config)
    scheduler.enable_prefix_caching = True
    common: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if options.threads is not None:
        common["INFERENCE_NUM_THREADS"] = options.threads
    properties = common | dict(config.arithmetic.properties)
    if options.tokenizer is None and options.speculation is None:
        return ContinuousBatchingPipeline(str(engine_dir), scheduler, "CPU", properties)
    tokenizer = _load_tokenizer(options.tokenizer, config)
    with ExitStack() as loading:  # files that the pipeline is loaded from
        if options.speculation is None:
            proposer = {}
        elif options.speculation.engine is None:
            proposer = {"prompt_lookup": True}
        else:
            folder = loading.enter_context(draft_folder(options.speculation.engine))
            _write_tokenizer(options.tokenizer, config, folder)
            fast = arithmetic_of(RuntimeOptions()).properties
            proposer = {"draft_model": draft_model(str(folder), "CPU", **common, **fast)}
        return ContinuousBatchingPipeline(str(engine_dir), tokenizer, scheduler, "CPU", **properties, **proposer)


def _step_tokens(options: RuntimeOptions, config: EngineConfig) -> int:
    """How many tokens a step computes at most, prompts and verified ones."""
    if config.reads_whole_prompts:
        return config.kv_blocks * BLOCK_TOKENS
    verified = options.speculation.tokens if options.speculation else 0
    return max(PREFILL_TOKENS, options.max_concurrency * (1 + verified))


def _load_tokenizer(path: Path | None, config: EngineConfig) -> Any:
    """What the pipeline compiles grammars for; without ``path`` it follows none."""
    from openvino_genai import Tokenizer

    with TemporaryDirectory() as folder:  # the library reads a tokenizer from files only
        _write_tokenizer(path, config, Path(folder))
        return Tokenizer(folder)


def _write_tokenizer(path: Path | None, config: EngineConfig, folder: Path) -> None:
    """A detokenizer, from which the library takes the text of every token, and where it speculates an encoder.

    A draft follows the grammar as well, with a matcher of its own.
    """
    from openvino import save_model

    if config.speculation is not None:
        write_encoder(folder)
    if path is None:
        return
    try:
        vocabulary = token_bytes(path, config.vocabulary_size, config.eos_token_ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineUnreadable(f"{path} is no tokenizer for grammars: {error!r}", "slipstream build RECIPE") from error
    save_model(vocabulary_model(vocabulary), folder / "openvino_detokenizer.xml")


def add_request(pipeline: Any, number: int, request: GenerationRequest, config: EngineConfig) -> Generation:
    """Hand a request to ``pipeline``, which takes it up in its next step."""
    import numpy as np
    from openvino import Tensor

    prompt = Tensor(np.asarray([request.prompt_ids], dtype=np.int64))
    decoding = generation_config(request, config.eos_token_ids)
    account = None
    if config.speculation is not None:
        speculate(decoding, config.speculation)
        account = Account(config.speculation, request.prompt_ids, request.sampling.max_tokens)
    return Generation(pipeline.add_request(number, prompt, decoding), config.eos_token_ids, account)


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
