"""The shape of a model: which matrices it has, and how wide. Read from its ``config.json``, or from a table.

The table (``known_models.json``, facts with their source) is for what is planned before anything is downloaded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipstream import InputError

Split = Literal["columns", "rows", "none"]


class ShapeUnknown(InputError):
    """No ``config.json`` to read, none that can be read, or a family of models that is not built here."""


@dataclass(frozen=True, slots=True)
class Linear:
    """``count`` matrices of ``outputs`` × ``inputs``, and which side tensor parallelism cuts.

    Column parallel layers share their outputs, row parallel ones their inputs (arXiv:1909.08053, section 3). The
    outputs of ``shared`` heads, ``shared_outputs`` of all, are cut by whole heads: where there are more GPUs than such
    heads, several GPUs hold the same one.
    """

    name: str
    inputs: int
    outputs: int
    split: Split
    count: int
    shared: int = 0
    shared_outputs: int = 0

    def on_one_of(self, gpus: int) -> "Linear":
        """The part of it that one of ``gpus`` holds, rounded up."""
        inputs = -(-self.inputs // gpus) if self.split == "rows" else self.inputs
        outputs = self.outputs
        if self.split == "columns":
            outputs = -(-(self.outputs - self.shared_outputs) // gpus)
            outputs += self.shared_outputs // self.shared * -(-self.shared // gpus) if self.shared else 0
        return Linear(self.name, inputs, outputs, self.split, self.count)


class ModelShape(BaseModel):
    """A decoder's shape, by the names of Hugging Face's ``config.json``; other keys of it are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: tuple[str, ...] = Field(min_length=1)
    model_type: str
    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=1)
    rope_scaling: Mapping[str, Any] | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    kv_lora_rank: int | None = Field(default=None, description="Multi-head latent attention, arXiv:2405.04434")
    q_lora_rank: int | None = None
    qk_rope_head_dim: int = 0
    qk_nope_head_dim: int = 0
    v_head_dim: int = 0
    n_routed_experts: int | None = Field(default=None, description="Mixture of experts, arXiv:2401.06066")
    n_shared_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    first_k_dense_replace: int = 0

    @model_validator(mode="before")
    @classmethod
    def _what_configs_leave_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        heads = given.get("num_attention_heads")
        filled = {name: value for name, value in given.items() if value is not None}
        filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and heads > 0 and isinstance(given.get("hidden_size"), int):
            filled.setdefault("head_dim", given["hidden_size"] // heads)
        return filled

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} heads do not share {self.num_key_value_heads} KV heads evenly"
            )
        return self

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token leaves in the cache: K and V of every KV head, or one latent and the rotary key.

        The latent's ``kv_lora_rank + qk_rope_head_dim`` per layer: arXiv:2405.04434, section 2.1.
        """
        if self.kv_lora_rank is not None:
            return self.num_hidden_layers * (self.kv_lora_rank + self.qk_rope_head_dim)
        return self.num_hidden_layers * 2 * self.num_key_value_heads * self.head_dim

    @property
    def active_intermediate_size(self) -> int:
        """Width of the widest feed-forward that one token passes, all its experts together."""
        experts = (self.num_experts_per_tok + self.n_shared_experts) * self.moe_intermediate_size
        return max(self.intermediate_size, experts)

    def linears(self) -> tuple[Linear, ...]:
        """Every matrix that quantization may store in fewer bits; embeddings, head and routers are no such ones."""
        return (*self._attention(), *self._feed_forward())

    @property
    def plain_weights(self) -> int:
        """Weights beside `linears` and the embeddings that stay in 16 bits: norms, biases and routers."""
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size + self.num_hidden_layers * (self.kv_lora_rank or 0)
        biases = 0
        if self.attention_bias or self.model_type == "qwen2":  # Qwen2's config does not say so
            biases = self.num_hidden_layers * (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
        routers = (
            (self.n_routed_experts or 0) * self.hidden_size * (self.num_hidden_layers - self.first_k_dense_replace)
        )
        return norms + biases + routers

    @property
    def twice_stored_weights(self) -> int:
        """Those of ``attention.kv_b`` that make keys: latent attention holds them as they are, and transposed.

        The query is multiplied by the latter while decoding (arXiv:2405.04434, section 2.1.2); ``k_b_proj_trans`` is
        what TensorRT-LLM calls them.
        """
        return self.num_hidden_layers * self.num_attention_heads * (self.kv_lora_rank or 0) * self.qk_nope_head_dim

    def _attention(self) -> Iterator[Linear]:
        layers, heads = self.num_hidden_layers, self.num_attention_heads
        if self.kv_lora_rank is None:
            kv_heads = self.num_key_value_heads
            kept = 2 * kv_heads * self.head_dim
            together = heads * self.head_dim + kept
            yield Linear("attention.qkv", self.hidden_size, together, "columns", layers, kv_heads, kept)
            yield Linear("attention.dense", heads * self.head_dim, self.hidden_size, "rows", layers)
            return
        query = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        if self.q_lora_rank is None:
            yield Linear("attention.q", self.hidden_size, query, "columns", layers)
        else:
            yield Linear("attention.q_a", self.hidden_size, self.q_lora_rank, "none", layers)
            yield Linear("attention.q_b", self.q_lora_rank, query, "columns", layers)
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        expanded = heads * (self.qk_nope_head_dim + self.v_head_dim)
        yield Linear("attention.kv_a", self.hidden_size, latent, "none", layers)
        yield Linear("attention.kv_b", self.kv_lora_rank, expanded, "columns", layers)
        yield Linear("attention.dense", heads * self.v_head_dim, self.hidden_size, "rows", layers)

    def _feed_forward(self) -> Iterator[Linear]:
        dense = self.num_hidden_layers if self.n_routed_experts is None else self.first_k_dense_replace
        yield from self._gated("mlp", self.intermediate_size, dense)
        if self.n_routed_experts is not None:
            sparse = self.num_hidden_layers - dense
            yield from self._gated("experts", self.moe_intermediate_size, sparse * self.n_routed_experts)
            yield from self._gated("shared_experts", self.n_shared_experts * self.moe_intermediate_size, sparse)

    def _gated(self, name: str, width: int, count: int) -> Iterator[Linear]:
        yield Linear(f"{name}.fc+gate", self.hidden_size, 2 * width, "columns", count)
        yield Linear(f"{name}.proj", width, self.hidden_size, "rows", count)


def read_shape(checkpoint: Path) -> ModelShape:
    """The shape of the Hugging Face checkpoint in folder ``checkpoint``.

    Raises:
        ShapeUnknown: no ``config.json``, or it lacks something.
    """
    config = checkpoint / "config.json"
    try:
        return ModelShape.model_validate(json.loads(config.read_bytes()))
    except (OSError, ValueError) as error:
        said = _faults(error) if isinstance(error, ValidationError) else str(error)
        raise ShapeUnknown(f"{config} tells no model's shape: {said}", "give a Hugging Face checkpoint") from error


def known_shape(reference: str) -> ModelShape | None:
    """The shape of ``hf:OWNER/NAME[@REVISION]`` if the table has it; nothing is downloaded."""
    name = reference.removeprefix("hf:").split("@")[0]
    return _known().get(name)


def known_models() -> tuple[str, ...]:
    """What `known_shape` knows, by reference."""
    return tuple(f"hf:{name}" for name in _known())


@cache
def _known() -> dict[str, ModelShape]:
    table = json.loads(Path(__file__).with_name("known_models.json").read_bytes())
    return {name: ModelShape.model_validate(config) for name, config in table.items()}


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in error.errors())


__all__ = ["Linear", "ModelShape", "ShapeUnknown", "known_models", "known_shape", "read_shape"]
