"""In which arithmetic an engine computes: as fast as this CPU can, or so that no batch changes a result.

The fast one multiplies activations in 8 bits by other kernels for one row than for several, and keeps keys and values
in as few bits as attention reads quickly; so a token's logits depend, in their last bits, on how many positions a step
computes, and where two tokens are nearly equal another one is picked. In 32 bits, with a cache of
32 bits and without dynamic quantization, the sums are the same for any number of rows (2026.4). That costs little where
a step waits for the weights, and up to half of the speed where it computes many positions;
``tests.benchmarks.speculation`` measures it.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from slipstream.engines.host import probe_host
from slipstream.engines.protocols import RuntimeOptions

# Positions per KV block on a CPU.
BLOCK_TOKENS = 32
# An 8-bit cache keeps a 32-bit scale and a 32-bit zero point: for keys by channel and block, for values by position.
_SCALE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``properties`` of the plugin. A KV element takes ``element_bytes``, with scales beside it if it ``is_scaled``."""

    properties: Mapping[str, str]
    element_bytes: int
    is_scaled: bool

    def block_bytes(self, layers: int, key_value_heads: int, head_dim: int) -> int:
        """Keys and values of `BLOCK_TOKENS` positions in all layers."""
        scales = _SCALE_BYTES * (head_dim + BLOCK_TOKENS) if self.is_scaled else 0
        return layers * key_value_heads * (2 * BLOCK_TOKENS * head_dim * self.element_bytes + scales)


FAST_8BIT_CACHE = Arithmetic({"KV_CACHE_PRECISION": "u8"}, element_bytes=1, is_scaled=True)
FAST_16BIT_CACHE = Arithmetic(
    {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}, element_bytes=2, is_scaled=False
)
# With these instructions products are bf16, and so can the cache be.
_BF16_ISA = frozenset({"avx512_bf16", "amx_bf16"})
BATCH_INVARIANT = Arithmetic(
    {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"},
    element_bytes=4,
    is_scaled=False,
)


def fast_arithmetic(isa: Set[str]) -> Arithmetic:
    """The fast one of a CPU with the features ``isa``.

    An 8-bit cache has half the bytes of a 16-bit one, and unpacking it takes longer than reading those would: with
    8 sequences of 900 positions, attention was more than half of a decode step of SmolLM2-135M on two cores of a Zen 4,
    and a third of it less in bf16 (``tests.benchmarks.profiling.operators``).
    """
    return FAST_16BIT_CACHE if isa & _BF16_ISA else FAST_8BIT_CACHE


def arithmetic_of(options: RuntimeOptions) -> Arithmetic:
    """Of an engine that is served with ``options``.

    One that verifies proposals computes several positions where it would compute one without them, so only the second
    kind picks what it picks alone.
    """
    exact = options.batch_invariant or options.speculation is not None
    return BATCH_INVARIANT if exact else fast_arithmetic(probe_host().isa)


__all__ = [
    "BATCH_INVARIANT",
    "BLOCK_TOKENS",
    "FAST_8BIT_CACHE",
    "FAST_16BIT_CACHE",
    "Arithmetic",
    "arithmetic_of",
    "fast_arithmetic",
]
