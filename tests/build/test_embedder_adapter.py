"""The embedder's LoRA: what is refused, and that the served embedder is the adapted one."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.build.adapter import AdapterInvalid, adapter_digest
from slipstream.build.adapter_fit import AdapterBaseMismatch, AdapterTargetsUnfit
from slipstream.build.embedder import EmbedderFacts, export_embedder
from slipstream.build.embedder_adapter import EmbedderAdapterNotFound, resolve_embedder_adapter
from slipstream.build.graph import resolve, stages_of
from slipstream.build.pipeline import Pipeline
from slipstream.build.recipe import load_recipe, parse_recipe
from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.build.stages import stage_digest
from slipstream.ensemble.embedder import Embedder
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe
from tests.build.lora import QUERIES, write_lora
from tests.tiny_bert import DIMENSION, MAX_TOKENS, TEXTS, write_tiny_encoder

QUERY, DOWN = "encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense"
MODULES = {QUERY: (DIMENSION, DIMENSION), DOWN: (2 * DIMENSION, DIMENSION)}


def silent(share: float, doing: str) -> None: ...


def write_adapter(folder: Path, base: ResolvedModel, **config: object) -> Path:
    """A LoRA on one query projection and one output of a feed-forward network."""
    fields = {"target_modules": list(MODULES), "base_model_name_or_path": base.reference, **config}
    return write_lora(folder, MODULES, **fields)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(model: ResolvedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "fine", model)


@pytest.fixture(scope="module")
def exported(
    model: ResolvedModel, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, EmbedderFacts]:
    out = tmp_path_factory.mktemp("exported")
    return out, export_embedder(model, TEXTS, out, silent, minimum_cosine=0.9, adapter=adapter)


def pytorch_vectors(model: ResolvedModel, adapter: Path | None) -> NDArray[np.float32]:
    return vectors_of(model, adapter, TEXTS)


def vectors_of(model: ResolvedModel, adapter: Path | None, texts: Sequence[str]) -> NDArray[np.float32]:
    """The definition: the LoRA beside the weights, mean over the tokens of each text alone, unit length."""
    import torch
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(model.path).eval()
    if adapter is not None:
        encoder = PeftModel.from_pretrained(encoder, str(adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]])
        with torch.inference_mode():
            pooled = encoder(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.array(vectors)


# What is refused


def test_an_adapter_of_another_encoder_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = write_tiny_encoder(tmp_path / "other", seed=1)
    with pytest.raises(AdapterBaseMismatch, match="was trained on") as refused:
        resolve_embedder_adapter(str(adapter), other)
    assert "set embedder.model to" in refused.value.remedy


def test_provenance_tells_encoders_of_one_name_apart(model: ResolvedModel, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "told", model)
    told = folder / "slipstream.json"
    told.write_text(json.dumps({"base_model": model.reference, "base_model_sha256": "1" * 64}))
    with pytest.raises(AdapterBaseMismatch, match=f"trained on {model.reference} \\(1111"):
        resolve_embedder_adapter(str(folder), model)
    told.write_text(json.dumps({"base_model": model.reference, "base_model_sha256": model.sha256}))
    assert resolve_embedder_adapter(str(folder), model).name == "told"


def test_the_generators_adapter_is_refused(model: ResolvedModel, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "lora", {QUERIES: (64, 64)}, base_model_name_or_path=model.reference)
    with pytest.raises(AdapterTargetsUnfit, match=r"q_proj.*does not have") as refused:
        resolve_embedder_adapter(str(folder), model)
    assert "query" in refused.value.remedy


@pytest.mark.parametrize(
    "reference",
    ["sample:nothing", "sample:", "sample:..", "sample:code-assistant-lora", "./nowhere", "~nobody/x", "a\0b"],
)
def test_an_adapter_that_is_not_there_is_refused(reference: str, model: ResolvedModel) -> None:
    with pytest.raises(EmbedderAdapterNotFound) as refused:
        resolve_embedder_adapter(reference, model)
    assert refused.value.remedy


def test_matrices_that_are_no_numbers_stop_the_build(model: ResolvedModel, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = write_adapter(tmp_path / "nan", model)
    matrices = load_file(folder / "adapter_model.safetensors")
    matrices[f"base_model.model.{QUERY}.lora_B.weight"][0] = np.nan
    save_file(matrices, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterInvalid, match="cannot be folded"):
        export_embedder(model, TEXTS, tmp_path / "out", silent, adapter=folder)


# What comes out


def test_the_exported_embedder_is_the_adapted_one(
    model: ResolvedModel, adapter: Path, exported: tuple[Path, EmbedderFacts]
) -> None:
    vectors = Embedder(exported[0]).embed(TEXTS)
    assert (vectors * pytorch_vectors(model, adapter)).sum(axis=1).min() > 0.99
    assert (vectors * pytorch_vectors(model, None)).sum(axis=1).max() < 0.99
    assert exported[1].minimum_cosine_seen > 0.99


def test_another_adapter_is_another_embedder(
    model: ResolvedModel, exported: tuple[Path, EmbedderFacts], tmp_path: Path
) -> None:
    """By its digest, so that an index that was made with one is not asked with another."""
    bare = export_embedder(model, TEXTS[:1], tmp_path / "bare", silent, minimum_cosine=0.9)
    assert bare.digest != exported[1].digest


def test_the_adapter_is_part_of_the_stages_key(
    tiny_recipe: TinyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home", qdrant_url=None, mlflow_uri=None)
    bare = resolve(parse_recipe(tiny_recipe(), "test"), settings, silent).embedder

    def keys(**changed: object) -> dict[str, str]:
        recipe = parse_recipe(tiny_recipe(**changed), "test")
        stages = stages_of(recipe, resolve(recipe, settings, silent))
        return {stage.name: stage_digest(stage.name, stage.inputs) for stage in stages}

    folder = write_adapter(tmp_path / "fine", bare)
    without, first = keys(), keys(embedder__adapter=str(folder))
    write_lora(folder, MODULES, seed=1, base_model_name_or_path=bare.reference)
    second = keys(embedder__adapter=str(folder))
    assert len({without["embedder"], first["embedder"], second["embedder"]}) == 3
    assert [name for name in without if without[name] != second[name]] == ["embedder"]


@pytest.mark.integration
def test_a_bundle_is_built_with_it(tiny_recipe: TinyRecipe, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", qdrant_url=None, mlflow_uri=None)
    bare = resolve(parse_recipe(tiny_recipe(), "test"), settings, silent).embedder
    folder = write_adapter(tmp_path / "fine", bare)
    recipe = parse_recipe(tiny_recipe(embedder__adapter=str(folder), quantization__method="none"), "test")
    bundle = Pipeline(recipe, settings, Unwatched()).build().bundle
    assert bundle.manifest.embedder.adapter is not None
    assert bundle.manifest.embedder.adapter.model_dump() == {"name": "fine", "sha256": adapter_digest(folder)}
    vectors = Embedder(bundle.embedder_dir).embed(TEXTS)
    assert (vectors * pytorch_vectors(bare, folder)).sum(axis=1).min() > 0.99


@pytest.mark.integration
def test_the_sample_fits_the_default_embedder_and_survives_int8(home: Path, tmp_path: Path) -> None:
    from slipstream.build.calibration import comparison_texts, source_chunks

    options = load_recipe("default").embedder
    assert (options.adapter, load_recipe("base").embedder) == ("sample:code-search-lora", options)
    base = resolve_model(options.model, home / "cache")
    sample = resolve_embedder_adapter("sample:code-search-lora", base)
    texts = comparison_texts(source_chunks(["pkg:starlette"]), 40, seed=0)
    export_embedder(base, texts, tmp_path, silent, minimum_cosine=0.99, adapter=sample.path)
    embedder = Embedder(tmp_path)
    question, code = embedder.embed(
        ["wait until every background task has ended", "async def call self for task in self tasks await task"]
    )
    bare = vectors_of(base, None, ["wait until every background task has ended"])[0]
    assert question @ bare < 0.99
    assert question @ code > bare @ code


class Unwatched:
    """A watcher that looks away."""

    def started(self, stage: str) -> None: ...

    def progress(self, stage: str, share: float, doing: str) -> None: ...

    def finished(self, stage: str, status: str, seconds: float) -> None: ...
