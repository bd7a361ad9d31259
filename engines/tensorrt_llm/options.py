"""The recipe's section ``tensorrt_llm``: what an engine is built for, and how it speculates.

How the weights are stored is not said here but in the recipe's ``quantization``, for every target alike
(`slipstream.engines.tensorrt_llm.planning.quantization` says which method becomes which algorithm).

=========================== ===========================================================================================
``mode: engine``            checkpoint → ``trtllm-build`` → engine directory, served by Triton's ``tensorrtllm`` backend
``mode: llmapi``            checkpoint + arguments of ``tensorrt_llm.LLM`` (its PyTorch backend), which compiles nothing
=========================== ===========================================================================================

What TensorRT-LLM 1.2.1 refuses is refused here first, with the field's name; so is a field that would have no effect.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slipstream.engines.tensorrt_llm.planning.cards import Gpu

Mode = Literal["engine", "llmapi"]
SpeculationMethod = Literal["none", "draft_target", "ngram", "eagle", "lookahead"]
PluginType = Literal["auto", "float16", "bfloat16", "fp8", "disable"]

# Which methods a mode has in 1.2.1. The PyTorch backend raises on Lookahead; trtllm-build knows no n-gram mode, and its
# Eagle wants a converted EAGLE-1/2 checkpoint, which nothing here makes.
METHODS: Mapping[Mode, frozenset[SpeculationMethod]] = {
    "engine": frozenset({"none", "draft_target", "lookahead"}),
    "llmapi": frozenset({"none", "draft_target", "ngram", "eagle"}),
}
_FIELDS_OF: Mapping[SpeculationMethod, frozenset[str]] = {
    "none": frozenset(),
    "draft_target": frozenset({"max_draft_len", "draft_model"}),
    "ngram": frozenset({"max_draft_len", "max_matching_ngram_size"}),
    "eagle": frozenset({"max_draft_len", "draft_model", "one_model"}),
    "lookahead": frozenset({"max_window_size", "max_ngram_size", "max_verification_set_size"}),
}
_NEEDS_DRAFT: frozenset[SpeculationMethod] = frozenset({"draft_target", "eagle"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _changed(self) -> set[str]:
        """Fields that differ from their default: what was written out as it is anyway changes nothing."""
        return {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}


class KvCacheOptions(_Section):
    """The paged KV cache. ``free_gpu_memory_fraction`` is the share of what weights and activations leave free.

    ``full_sequences`` of ``max_seq_len`` have to fit at once; a plan that holds fewer is refused.
    """

    dtype: Literal["auto", "fp8"] = "auto"
    free_gpu_memory_fraction: float = Field(default=0.9, gt=0, le=1)
    tokens_per_block: Literal[16, 32, 64, 128] = 32
    enable_block_reuse: bool = True
    full_sequences: int = Field(default=1, ge=1)


class SpeculativeOptions(_Section):
    """How tokens are proposed; every field belongs to the methods that its description names.

    `max_draft_len` tokens are verified at a time. `draft_model` is a model reference (a path, ``hf:`` or ``pypi:``)
    with the target's vocabulary, for ``eagle`` an EAGLE-3 head.
    """

    method: SpeculationMethod = "none"
    max_draft_len: int = Field(default=4, ge=1, le=64, description="draft_target, ngram, eagle")
    draft_model: str | None = Field(default=None, min_length=1, description="draft_target, eagle")
    one_model: bool = Field(default=True, description="eagle: the head runs inside the target's model")
    max_matching_ngram_size: int = Field(default=3, ge=1, le=16, description="ngram")
    max_window_size: int = Field(default=4, ge=1, le=32, description="lookahead: W of (W, N, G)")
    max_ngram_size: int = Field(default=3, ge=2, le=16, description="lookahead: N of (W, N, G)")
    max_verification_set_size: int = Field(default=4, ge=1, le=32, description="lookahead: G of (W, N, G)")

    @model_validator(mode="after")
    def _only_what_the_method_reads(self) -> Self:
        foreign = self._changed() - _FIELDS_OF[self.method] - {"method"}
        if foreign:
            raise ValueError(f"{', '.join(sorted(foreign))} mean nothing to speculative.method {self.method}")
        if self.method in _NEEDS_DRAFT and self.draft_model is None:
            raise ValueError(f"speculative.method {self.method} needs draft_model")
        return self

    @property
    def runs_two_models(self) -> bool:
        """Whether drafts come from outside the target's own step, which the overlap scheduler cannot serve."""
        return self.method in {"draft_target", "ngram"} or (self.method == "eagle" and not self.one_model)

    @property
    def draft_tokens(self) -> int:
        """The most tokens that one step proposes: what ``--max_draft_len`` has to be.

        For Lookahead's (W, N, G) it is (N - 2) + (W - 1 + G)(N - 1): arXiv:2402.02057, section 3, and
        ``LookaheadDecodingConfig.calculate_speculative_resource`` of TensorRT-LLM.
        """
        if self.method == "none":
            return 0
        if self.method == "lookahead":
            branches = self.max_window_size - 1 + self.max_verification_set_size
            return self.max_ngram_size - 2 + branches * (self.max_ngram_size - 1)
        return self.max_draft_len


class TensorRtLlmOptions(_Section):
    """What an engine is built for: the GPU, the shapes, the KV cache and the speculation.

    ``max_seq_len`` counts prompt and answer together. ``max_num_tokens`` is the most tokens of all requests in one
    step, padding removed. ``tensor_parallel`` GPUs of the same kind hold a share of every layer each.
    """

    mode: Mode = "engine"
    gpu: Gpu
    tensor_parallel: Literal[1, 2, 4, 8] = 1
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    max_batch_size: int = Field(default=64, ge=1, le=4096)
    max_input_len: int = Field(default=8192, ge=1)
    max_seq_len: int = Field(default=9216, ge=2)
    max_num_tokens: int = Field(default=8192, ge=1)
    opt_num_tokens: int | None = Field(
        default=None, ge=1, description="engine: the step size that kernels are tuned for"
    )
    kv_cache: KvCacheOptions = KvCacheOptions()
    chunked_context: bool = Field(default=True, description="A prompt may take several steps, between others' tokens.")
    paged_context_fmha: bool = Field(default=True, description="engine: KV reuse and chunked context need it")
    gemm_plugin: PluginType = Field(default="auto", description="engine: acts on GEMMs that are not 4-bit")
    multiple_profiles: bool = Field(default=False, description="engine: several optimization profiles, slower to build")
    speculative: SpeculativeOptions = SpeculativeOptions()

    @model_validator(mode="after")
    def _shapes_fit_together(self) -> Self:
        if self.max_input_len >= self.max_seq_len:
            raise ValueError(
                f"max_input_len {self.max_input_len} leaves no token of max_seq_len {self.max_seq_len} for an answer"
            )
        if self.max_batch_size > self.max_num_tokens:  # 1.2.1 only warns, and then serves fewer
            raise ValueError(f"max_batch_size {self.max_batch_size} exceeds max_num_tokens {self.max_num_tokens}")
        if self.max_input_len > self.max_num_tokens and not self.chunked_context:
            raise ValueError(
                f"a prompt of max_input_len {self.max_input_len} does not fit max_num_tokens {self.max_num_tokens} "
                "in one step: set chunked_context"
            )
        if self.kv_cache.full_sequences > self.max_batch_size:
            raise ValueError(
                f"kv_cache.full_sequences {self.kv_cache.full_sequences} exceeds max_batch_size {self.max_batch_size}"
            )
        if self.opt_num_tokens is not None and self.opt_num_tokens > self.max_num_tokens:
            raise ValueError(f"opt_num_tokens {self.opt_num_tokens} exceeds max_num_tokens {self.max_num_tokens}")
        return self

    @model_validator(mode="after")
    def _the_mode_has_it(self) -> Self:
        if self.speculative.method not in METHODS[self.mode]:
            raise ValueError(
                f"mode {self.mode} of TensorRT-LLM 1.2.1 has no speculative.method {self.speculative.method}, "
                f"only {', '.join(sorted(METHODS[self.mode]))}"
            )
        compiled = {"opt_num_tokens", "paged_context_fmha", "gemm_plugin", "multiple_profiles"} & self._changed()
        if self.mode == "llmapi" and compiled:
            raise ValueError(f"{', '.join(sorted(compiled))} are trtllm-build's and mean nothing to mode llmapi")
        return self

    @model_validator(mode="after")
    def _paged_context(self) -> Self:
        """Reusing KV blocks, cutting prompts and verifying drafts all attend to cached blocks in the context phase."""
        needing = {
            "chunked_context": self.chunked_context,
            "kv_cache.enable_block_reuse": self.kv_cache.enable_block_reuse,
            "speculative.method draft_target": self.speculative.method == "draft_target",
        }
        if self.mode == "engine" and not self.paged_context_fmha and any(needing.values()):
            raise ValueError(f"{', '.join(name for name, on in needing.items() if on)} need paged_context_fmha")
        if self.mode == "engine" and self.speculative.method == "draft_target":
            self._answers_come_back_as_prompts()
        return self

    def _answers_come_back_as_prompts(self) -> None:
        """Two engines take turns: each sends the other prompt and answer so far, of which only the end is new."""
        if not self.kv_cache.enable_block_reuse:
            raise ValueError("speculative.method draft_target needs kv_cache.enable_block_reuse in mode engine")
        if self.max_num_tokens < self.max_seq_len and not self.chunked_context:
            raise ValueError("speculative.method draft_target needs chunked_context, or max_num_tokens of max_seq_len")


__all__ = [
    "METHODS", "KvCacheOptions", "Mode", "SpeculationMethod", "SpeculativeOptions", "TensorRtLlmOptions",
]  # fmt: skip
