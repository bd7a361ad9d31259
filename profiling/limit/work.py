"""What one engine reads and computes, for a token that it writes and for a prompt that it reads.

Only what cannot be avoided is counted, so that bounds made of it are lower ones: the stored weights once per step (not
what a runtime unpacks of them), the KV cache of the attended positions, two operations per weight and position of a
matrix product (one multiplication, one addition), four per channel and attended position of attention (query times
key, weight times value). Norms, activations, sampling and what runs beside the engine are not.
"""

from dataclasses import dataclass
from typing import Literal

from slipstream import InputError

Arithmetic = Literal["fast", "f32", "16-bit", "8-bit"]
"""In what the products are computed: ``fast`` is whatever this CPU does best, where the engine is free to choose."""


class LimitUnknown(InputError):
    """It cannot be told what an engine reads and computes."""


@dataclass(frozen=True, slots=True)
class Load:
    """``read_bytes`` from memory and ``operations`` of one step or one prompt."""

    read_bytes: float
    operations: float


@dataclass(frozen=True, slots=True)
class Work:
    """One engine, whole: where several GPUs share it, each does its part.

    Attributes:
        weight_bytes: of every matrix that a token is multiplied by, as stored: codes, scales and zero points.
        row_bytes: of the embedding, that one token reads.
        parameters: weights that a token is multiplied by; a head that is also the embedding counts.
        head_parameters: those of them that only a position needs which a token is drawn from.
        kv_bytes_per_token: what a position leaves in the cache, all layers, with scales.
        attention_width: layers x heads x channels of a head.
        tokens_per_step: a sequence gets at most from one step; more than 1 where it verifies proposals.
        precision: of keys and values.
    """

    weight_bytes: int
    row_bytes: int
    parameters: int
    head_parameters: int
    kv_bytes_per_token: float
    attention_width: int
    tokens_per_step: int
    arithmetic: Arithmetic
    precision: str

    def decode(self, streams: int = 1, context_tokens: int = 0) -> Load:
        """One step that writes a token for each of ``streams`` sequences of ``context_tokens`` positions.

        The weights are read once, by all of them together.

        Raises:
            LimitUnknown: there is no such step.
        """
        if streams < 1 or context_tokens < 0:
            raise LimitUnknown(f"{streams} streams of {context_tokens} tokens are no step", "give 1 or more streams")
        own_bytes = self.row_bytes + context_tokens * self.kv_bytes_per_token
        own_operations = 2 * self.parameters + 4 * self.attention_width * context_tokens
        return Load(self.weight_bytes + streams * own_bytes, streams * own_operations)

    def prefill(self, prompt_tokens: int, cached_tokens: int = 0) -> Load:
        """All steps that read one prompt, of which ``cached_tokens`` lie in the cache already.

        A position attends itself and all before it. The head is needed once, for the first token of the answer, and
        the last position is always computed for it.

        Raises:
            LimitUnknown: the prompt is empty, or less than nothing is cached.
        """
        if prompt_tokens < 1 or cached_tokens < 0:
            raise LimitUnknown(
                f"a prompt of {prompt_tokens} tokens, {cached_tokens} of them cached, is none",
                "give a prompt of 1 or more tokens",
            )
        cached = min(cached_tokens, prompt_tokens - 1)
        computed = prompt_tokens - cached
        attended = (cached + 1 + prompt_tokens) * computed / 2
        products = computed * (self.parameters - self.head_parameters) + self.head_parameters
        read_bytes = self.weight_bytes + computed * self.row_bytes + cached * self.kv_bytes_per_token
        return Load(read_bytes, 2 * products + 4 * self.attention_width * attended)


__all__ = ["Arithmetic", "LimitUnknown", "Load", "Work"]
