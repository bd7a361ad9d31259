"""A decoder rounded layer by layer, with two streams of the calibration text beside each other: exact and rounded.

In front of every matrix the exact stream has inputs X and the rounded one X'. The matrix that maps X' best to what W
makes of X is W + W (X - X') X'^T H^-1 with H = X' X'^T; that one is rounded instead of W, by GPTQ under H. This is the
error propagation of Arai and Ichikawa 2025, "Quantization Error Propagation", and the asymmetric calibration of Li et
al. 2025, "GPTAQ". The two matrices that write into the residual stream also get what it lacks by then, the difference
of the two streams, as a part of their target: an error that an earlier layer left is made up for, where it can be.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.engines.openvino.gptq.memory import keeping_freed_memory
from slipstream.engines.openvino.gptq.rounding import Rounded, round_matrix
from slipstream.engines.protocols import Progress, QuantizationSpec

if TYPE_CHECKING:
    import torch

_DAMPING = 0.01
_PARTS = (
    "input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "mlp.act_fn",
)  # fmt: skip


class DecoderUnknown(InputError):
    """The model's layers are not built like Llama's."""


def round_decoder(
    checkpoint: Path, spec: QuantizationSpec, calibration: Sequence[Sequence[int]], progress: Progress
) -> dict[str, Rounded]:
    """Every linear layer inside the blocks of ``checkpoint``, by its module's name, on the grid of ``spec``.

    Memory: two float32 copies of the model, and eight times the calibration text's hidden states (tokens x width x 4
    bytes). Time is that of three passes over the text, and of rounding.

    Raises:
        DecoderUnknown: the method needs pre-norm layers with ``q/k/v/o_proj`` and ``gate/up/down_proj``, as Llama,
            Mistral, Qwen2 and SmolLM2 have them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True)
    model = loaded.eval().requires_grad_(False)
    decoder = model.get_decoder()
    require_known(decoder)
    found: dict[str, Rounded] = {}
    with torch.inference_mode(), _fast_products(), keeping_freed_memory():
        stream = _Stream.of(model, calibration)
        exact, rounded = stream.hidden, stream.hidden.clone()
        for number, layer in enumerate(decoder.layers):
            progress(number / len(decoder.layers), f"rounding layer {number + 1} of {len(decoder.layers)}")
            step = _Layer(layer, stream, spec)
            exact, rounded = step.run(exact, rounded)
            found |= {f"model.layers.{number}.{name}": one for name, one in step.found.items()}
    progress(1.0, "rounded")
    return found


@contextmanager
def _fast_products() -> Iterator[None]:
    """Products of matrices with 16-bit factors and 32-bit sums, on CPUs that have such instructions: twice as fast.

    What calibration text says is far less exact than that.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def require_known(decoder: Any) -> None:
    """
    Raises:
        DecoderUnknown: see `round_decoder`.
    """
    for layer in getattr(decoder, "layers", None) or [None]:
        missing = [part for part in _PARTS if not _has(layer, part)]
        if missing:
            raise DecoderUnknown(
                f"gptq does not know the layers of {type(decoder).__name__}: they have no {missing[0]}",
                "set quantization.method: awq",
            )


def _has(layer: Any, part: str) -> bool:
    for name in part.split("."):
        if not hasattr(layer, name):
            return False
        layer = getattr(layer, name)
    return True


class _Stream:
    """The calibration text in front of the first layer: all sequences one after the other.

    ``hidden`` is [tokens, width]; ``spans`` says which rows are which sequence, ``options`` how a layer is called.
    """

    def __init__(self, hidden: "torch.Tensor", spans: Sequence[slice], options: Sequence[Mapping[str, Any]]) -> None:
        self.hidden, self.spans, self.options = hidden, spans, options

    @classmethod
    def of(cls, model: Any, calibration: Sequence[Sequence[int]]) -> "_Stream":
        import torch

        seen: list[tuple[torch.Tensor, dict[str, Any]]] = []

        def catch(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            hidden = given[0] if given else named["hidden_states"]
            seen.append((hidden[0], {key: value for key, value in named.items() if key != "hidden_states"}))
            raise _Caught

        hook = model.get_decoder().layers[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            for ids in calibration:
                try:
                    model(torch.tensor([list(ids)]), use_cache=False)
                except _Caught:
                    continue
        finally:
            hook.remove()
        spans, start = [], 0
        for hidden, _ in seen:
            spans.append(slice(start, start + len(hidden)))
            start += len(hidden)
        return cls(torch.cat([hidden for hidden, _ in seen]), spans, [options for _, options in seen])

    def attend(self, attention: Any, normed: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """What ``attention`` adds to the residual stream, and what went into its last matrix. Both [tokens, ...]."""
        import torch

        inputs: list[torch.Tensor] = []
        hook = attention.o_proj.register_forward_pre_hook(lambda module, given: inputs.append(given[0][0]))
        try:
            outputs = [
                attention(hidden_states=normed[span][None], **options)[0][0]
                for span, options in zip(self.spans, self.options, strict=True)
            ]
        finally:
            hook.remove()
        return torch.cat(outputs), torch.cat(inputs)


class _Caught(Exception):
    """The first layer was reached."""


class _Layer:
    """One layer: run both streams through it, rounding each matrix when the rounded stream gets to it."""

    def __init__(self, layer: Any, stream: _Stream, spec: QuantizationSpec) -> None:
        self._layer, self._stream, self._spec = layer, stream, spec
        self.found: dict[str, Rounded] = {}

    def run(self, exact: "torch.Tensor", rounded: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Hidden states before the layer to those after it, in both streams; the layer's weights are rounded then."""
        layer, stream = self._layer, self._stream
        attention, mlp = layer.self_attn, layer.mlp

        exact_in = layer.input_layernorm(exact)
        added, exact_attended = stream.attend(attention, exact_in)
        exact_middle = exact + added
        exact_mlp_in = layer.post_attention_layernorm(exact_middle)
        exact_gated = self._gate(exact_mlp_in)
        exact_out = exact_middle + mlp.down_proj(exact_gated)

        rounded_in = layer.input_layernorm(rounded)
        self._round(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), exact_in, rounded_in)
        _, attended = stream.attend(attention, rounded_in)
        self._round(("self_attn.o_proj",), exact_attended, attended, exact - rounded)
        middle = rounded + attention.o_proj(attended)
        mlp_in = layer.post_attention_layernorm(middle)
        self._round(("mlp.gate_proj", "mlp.up_proj"), exact_mlp_in, mlp_in)
        gated = self._gate(mlp_in)
        self._round(("mlp.down_proj",), exact_gated, gated, exact_middle - middle)
        return exact_out, middle + mlp.down_proj(gated)

    def _gate(self, hidden: "torch.Tensor") -> "torch.Tensor":
        mlp = self._layer.mlp
        gated: torch.Tensor = mlp.act_fn(mlp.gate_proj(hidden)) * mlp.up_proj(hidden)
        return gated

    def _round(
        self,
        names: Sequence[str],
        exact: "torch.Tensor",
        rounded: "torch.Tensor",
        missing: "torch.Tensor | None" = None,
    ) -> None:
        """Round matrices that read the same inputs, as one.

        Args:
            exact, rounded: their inputs in both streams, [tokens, in].
            missing: what the residual stream that they write into lacks, [tokens, out].
        """
        import torch

        linears = [self._layer.get_submodule(name) for name in names]
        weight = torch.cat([linear.weight for linear in linears])
        hessian = rounded.T @ rounded
        wanted = weight @ ((exact - rounded).T @ rounded)  # the difference first: it is small, and products are rounded
        if missing is not None:
            wanted += missing.T @ rounded
        damped = hessian + torch.eye(len(hessian)) * (_DAMPING * torch.diag(hessian).mean() + 1e-8)
        corrected = weight + torch.linalg.solve(damped, wanted.T).T
        result = round_matrix(
            corrected, hessian, self._spec.group_size, symmetric=self._spec.symmetric, damping=_DAMPING
        )
        start = 0
        for name, linear in zip(names, linears, strict=True):
            rows = slice(start, start + len(linear.weight))
            one = Rounded(*(part[rows] for part in (result.values, result.scales, result.zeros, result.weight)))
            linear.weight = torch.nn.Parameter(one.weight, requires_grad=False)
            self.found[name] = one
            start = rows.stop


__all__ = ["DecoderUnknown", "require_known", "round_decoder"]
