"""What an engine will take of each GPU, told in microseconds, so that a build that cannot fit never starts.

Per GPU: weights + activations + runtime buffers + a fixed part, and of what is left the KV cache gets its fraction.
Every formula is an upper bound for mode engine, and was compared with what public logs of real engines print
(the tests hold the numbers); mode llmapi is planned with the same bounds.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from slipstream.engines.protocols import QuantizationSpec
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.cards import GpuCard
from slipstream.engines.tensorrt_llm.planning.quantization import scales_cache, scheme_of
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape

MIB = 2**20

# CUDA context, cuBLAS and the driver: NVIDIA's memory reference page (reference/memory.html) has a log with 0.77 GiB
# that no line accounts for.
_FIXED_BYTES = 1024 * MIB
# Buffers of NCCL by GPUs: ai-dynamo/aiconfigurator, systems/*.yaml, nccl_mem.
_NCCL_BYTES: Mapping[int, int] = {1: 0, 2: 342 * MIB, 4: 392 * MIB, 8: 392 * MIB}
_GEMM_WORKSPACE_BYTES = 32 * MIB  # what the log of a tiny engine shows beside its tensors
_FP8_ACTIVATIONS = (
    1.5  # "might be larger than the theoretical optimized memory size" with FP8, memory page; 1.44 in a log
)
_DECODER_BYTES_PER_SLOT = 512 * 1024


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one model takes of each GPU, in bytes."""

    weights: int
    activations: int
    buffers: int
    kv_per_token: int

    @property
    def resident(self) -> int:
        return self.weights + self.activations + self.buffers


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """One GPU's memory when target and draft are loaded, in bytes.

    Attributes:
        kv_bytes: what the KV cache of target and draft gets together; negative where not even the rest fits.
        kv_tokens: tokens that both caches hold, whole blocks; ``max_seq_len`` of them are one full sequence.
    """

    card: GpuCard
    options: TensorRtLlmOptions
    target: Footprint
    draft: Footprint | None
    fixed: int

    @property
    def free_bytes(self) -> int:
        """What models and fixed part leave of the card; negative where they do not fit."""
        return self.card.memory_bytes - self.fixed - sum(model.resident for model in self._models)

    @property
    def kv_bytes(self) -> int:
        return int(self.free_bytes * self.options.kv_cache.free_gpu_memory_fraction)

    @property
    def kv_tokens(self) -> int:
        block = self.options.kv_cache.tokens_per_block
        per_token = sum(model.kv_per_token for model in self._models)
        return max(0, self.kv_bytes // (per_token * block)) * block

    @property
    def needed_kv_bytes(self) -> int:
        """What has to be left free so that the demanded full sequences fit into the cache's share of it."""
        tokens = self.options.kv_cache.full_sequences * self._sequence_tokens
        per_token = sum(model.kv_per_token for model in self._models)
        return math.ceil(tokens * per_token / self.options.kv_cache.free_gpu_memory_fraction)

    @property
    def full_sequences(self) -> int:
        """How many sequences of ``max_seq_len`` fit at once; more can run while they are shorter."""
        return self.kv_tokens // self._sequence_tokens

    @property
    def fits(self) -> bool:
        return self.full_sequences >= self.options.kv_cache.full_sequences

    def rows(self) -> Iterator[tuple[str, int]]:
        """What is taken by what, in bytes, for a table."""
        yield "weights", self.target.weights
        yield "activations", self.target.activations
        yield "runtime and decoder buffers", self.target.buffers
        if self.draft is not None:
            yield "draft weights", self.draft.weights
            yield "draft activations and buffers", self.draft.activations + self.draft.buffers
        yield "CUDA context and NCCL", self.fixed
        yield "KV cache", max(0, self.kv_bytes)

    @property
    def _sequence_tokens(self) -> int:
        """``max_seq_len`` in whole blocks."""
        block = self.options.kv_cache.tokens_per_block
        return -(-self.options.max_seq_len // block) * block

    @property
    def _models(self) -> tuple[Footprint, ...]:
        return (self.target,) if self.draft is None else (self.target, self.draft)


def plan_memory(
    options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape, draft: ModelShape | None = None
) -> MemoryPlan:
    """What ``shape``, quantized as ``spec`` says, and the 16-bit ``draft`` take of each of the GPUs."""
    target = footprint(options, spec, shape)
    beside = None if draft is None else footprint(options, QuantizationSpec(method="none"), draft)
    return MemoryPlan(options.gpu, options, target, beside, _FIXED_BYTES + _NCCL_BYTES[options.tensor_parallel])


def footprint(options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape) -> Footprint:
    """What one model takes of each GPU."""
    return Footprint(
        weights=weight_bytes(options, spec, shape),
        activations=activation_bytes(options, spec, shape),
        buffers=buffer_bytes(options, shape),
        kv_per_token=kv_bytes_per_token(options, spec, shape),
    )


def weight_bytes(options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape) -> int:
    """Quantized matrices with their scales, and embedding, head and norms in 16 bits.

    Embedding and head are cut along the vocabulary. An engine has both even where the model ties them: the exported
    checkpoint holds two tensors.
    """
    gpus = options.tensor_parallel
    scheme = scheme_of(spec)
    linears = sum(scheme.bytes_of(linear.on_one_of(gpus), spec.group_size) for linear in shape.linears())
    copies = 1 if shape.tie_word_embeddings and options.mode == "llmapi" else 2
    vocabulary = copies * 2 * shape.hidden_size * -(-shape.vocab_size // gpus)
    return int(linears) + vocabulary + 2 * (shape.plain_weights + -(-shape.twice_stored_weights // gpus))


def kv_bytes_per_token(options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape) -> int:
    """Layers × KV heads × head size × 2 × bytes; KV heads are shared by the GPUs, a latent cache is on each of them.

    Source: NVIDIA's memory reference page, section "KV cache tensor"; GQA: arXiv:2305.13245.
    """
    size = 1 if options.kv_cache.dtype == "fp8" and scales_cache(options.mode, spec) else 2
    if shape.kv_lora_rank is not None:
        return size * shape.kv_values_per_token
    on_one = -(-shape.num_key_value_heads // options.tensor_parallel)
    return size * shape.kv_values_per_token * on_one // shape.num_key_value_heads


def activation_bytes(options: TensorRtLlmOptions, spec: QuantizationSpec, shape: ModelShape) -> int:
    """The most tensors that live at once inside a step of ``max_num_tokens``, in 16 bits, and its logits.

    In the feed-forward these are input and residual (2 × hidden) and both halves of the gated width (2 × intermediate);
    FP8 keeps quantized copies beside them. Logits come only for the last token of a sequence, and for each draft token.
    """
    width = 2 * shape.hidden_size + 2 * shape.active_intermediate_size // options.tensor_parallel
    tokens = 2 * options.max_num_tokens * width * (_FP8_ACTIVATIONS if spec.method == "fp8" else 1)
    rows = options.max_batch_size * (1 + options.speculative.draft_tokens)
    logits = 2 * rows * -(-shape.vocab_size // options.tensor_parallel)
    return int(tokens) + max(_GEMM_WORKSPACE_BYTES, logits)


def buffer_bytes(options: TensorRtLlmOptions, shape: ModelShape) -> int:
    """What the C++ runtime and its decoder allocate for ``max_batch_size`` requests of ``max_seq_len``.

    Fitted to be no less than two public logs: four bytes for two vocabularies and three sequences of ids (runtime), and
    for five vocabularies and half a MiB (decoder), for each request; tensor parallelism does not cut it.
    """
    runtime = 4 * (2 * shape.vocab_size + 3 * options.max_seq_len)
    decoder = 4 * 5 * shape.vocab_size + _DECODER_BYTES_PER_SLOT
    return options.max_batch_size * (runtime + decoder)


__all__ = ["Footprint", "MemoryPlan", "plan_memory"]
