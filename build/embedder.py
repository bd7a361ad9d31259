"""The sentence embedder for serving: one ONNX graph with pooling and normalisation inside, in int8.

The weights of matrix products lie in int8 blocks of 64 and are multiplied with activations that are quantized to int8
in equal blocks as they run (ONNX Runtime, contrib operator ``MatMulNBits`` with ``accuracy_level=4``); embedding
tables are int8 as well. Dynamic quantization with one activation range per tensor (``MatMulInteger``) takes 0.7 of
the time, but there a text's vector depends on what shares its batch, and the cosine to fp32 is 0.992 instead of 0.999
(all-MiniLM-L6-v2, chunks of Python source).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from slipstream import GateError, InputError
from slipstream.build.references import ResolvedModel
from slipstream.build.sentence_encoder import EmbedderUnsupported, embed_fp32, load_encoder, load_tokenizer, quiet
from slipstream.engines.protocols import Progress
from slipstream.ensemble.embedder import FACTS, INPUTS, MODEL, OUTPUT, TOKENIZER, Embedder

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET = 18
_BLOCK = 64  # 32 and 128 were slower
_POOLED = "pooled"


class EmbedderDisagrees(GateError):
    """The exported embedder's vectors are too far from the original's."""


@dataclass(frozen=True)
class EmbedderFacts:
    """What was exported: ``digest`` is the sha256 over graph and tokenizer, cosines are those to the fp32 model."""

    digest: str
    dimension: int
    max_tokens: int
    mean_cosine: float
    minimum_cosine_seen: float


def export_embedder(
    model: ResolvedModel,
    texts: Sequence[str],
    out: Path,
    progress: Progress,
    minimum_cosine: float = 0.99,
    *,
    adapter: Path | None = None,
) -> EmbedderFacts:
    """Write ``model.onnx``, ``tokenizer.json`` and ``embedder.json`` to ``out``; equal arguments give equal bytes.

    Args:
        adapter: a LoRA that was checked against ``model``; the fp32 model is the one with it folded in.
        texts: what the exported embedder is compared with the fp32 PyTorch model on.
        minimum_cosine: what the worst of ``texts`` has to reach.

    Raises:
        EmbedderUnsupported: no encoder, or another pooling than mean or first token.
        AdapterInvalid: weights are no numbers once the adapter is folded in.
        EmbedderDisagrees: a text's two vectors are farther apart than ``minimum_cosine``.
    """
    if not texts:
        raise InputError("there is no text to compare the embedder on", "name larger source trees to calibrate on")
    out.mkdir(parents=True, exist_ok=True)
    progress(0.0, f"loading {model.slug}")
    with quiet():
        encoder = load_encoder(model, adapter)
        tokenizer = load_tokenizer(model)
        progress(0.1, "exporting to ONNX")
        graph = _export(encoder)
        progress(0.4, "quantizing")
        _quantize(graph, out / MODEL)
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER), pretty=False)
    _write_facts(out, encoder.dimension, tokenizer.model_max_length, tokenizer.pad_token_id)
    embedder = Embedder(out)
    expected = embed_fp32(encoder, embedder.tokenizer.encode(texts), lambda s: progress(0.5 + 0.4 * s, "comparing"))
    cosines = (expected * embedder.embed(texts)).sum(axis=1)
    facts = EmbedderFacts(
        embedder.digest, embedder.dimension, embedder.max_tokens, float(cosines.mean()), float(cosines.min())
    )
    if not facts.minimum_cosine_seen >= minimum_cosine:  # NaN fails too
        raise EmbedderDisagrees(
            f"the ONNX embedder's cosine to {model.reference} is {facts.minimum_cosine_seen:.4f} on the worst of "
            f"{len(texts)} texts ({facts.mean_cosine:.4f} in the mean); {minimum_cosine} is asked for",
            "lower embedder.minimum_cosine in the recipe, or choose another embedder",
        )
    progress(1.0, f"worst cosine {facts.minimum_cosine_seen:.4f}")
    return facts


def _export(encoder: Any) -> "ModelProto":
    """The module as ONNX, without what the exporter notes about this machine's files."""
    import torch

    example = torch.ones((2, 8), dtype=torch.int64)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program: Any = torch.onnx.export(
        encoder,
        (example, example.clone()),
        input_names=list(INPUTS),
        output_names=[_POOLED],
        dynamic_shapes=dict.fromkeys(INPUTS, sizes),
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    model: ModelProto = program.model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    _rename_values(graph, {OUTPUT: "token_embedding", _POOLED: OUTPUT})
    for value in (*graph.input, *graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, ("batch", "length"), strict=True):
            if not axis.HasField("dim_value"):
                axis.dim_param = name
    return model


def _rename_values(graph: Any, names: dict[str, str]) -> None:
    """Give values new names. The exporter may call an inner value as we call the output, which is no valid graph."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _quantize(graph: "ModelProto", path: Path) -> None:
    """Write ``graph`` to ``path`` in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    onnx.checker.check_model(graph, full_check=True)
    with TemporaryDirectory() as aside:
        tables = Path(aside, MODEL)
        quantize_dynamic(graph, tables, op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8)
        quantizer = MatMulNBitsQuantizer(
            onnx.load(tables), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=4
        )
    quantizer.process()
    path.write_bytes(quantizer.model.model.SerializeToString(deterministic=True))


def _write_facts(out: Path, dimension: int, max_tokens: int, pad_token_id: int | None) -> None:
    digest = sha256()
    for name in (MODEL, TOKENIZER):
        digest.update((out / name).read_bytes())
    facts = {
        "digest": digest.hexdigest(),
        "dimension": dimension,
        "max_tokens": max_tokens,
        "pad_token_id": pad_token_id or 0,  # padding is masked: its id does not matter
    }
    (out / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


__all__ = ["EmbedderDisagrees", "EmbedderFacts", "EmbedderUnsupported", "export_embedder"]
