"""The rendered repository: which models a bundle brings."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.triton.repository import backend_environment, write_repository
from tests.engines.conftest import write_vocabulary
from tests.engines.tensorrt_llm.conftest import SPECULATIONS, served_engine
from tests.ensemble.triton.tensorrt_llm_bundles import write_bundle

OURS = {"embedder", "generator", "rag", "retriever", "search"}


def bundle(folder: Path, mode: str = "engine", serving: dict[str, Any] | None = None, **options: Any) -> Bundle:
    (folder / "tokenizer").mkdir(parents=True)
    write_vocabulary(folder / "tokenizer" / "tokenizer.json", [b"a", b"b"])
    return write_bundle(folder, served_engine(mode, **options), serving=serving or {})


def models(repository: Path) -> set[str]:
    return {path.parent.name for path in repository.glob("*/config.pbtxt")}


def parameters(repository: Path, model: str) -> dict[str, str]:
    config: Any = text_format.Parse((repository / model / "config.pbtxt").read_text(), ModelConfig())
    return {name: entry.string_value for name, entry in config.parameters.items()}


def test_a_compiled_engine_brings_its_native_models(tmp_path: Path) -> None:
    repository = write_repository(bundle(tmp_path / "b", **SPECULATIONS["bls-draft"]), tmp_path / "models")
    assert models(repository) == OURS | {"tensorrt_llm", "tensorrt_llm_draft"}
    assert (repository / "tensorrt_llm_draft" / "1").is_dir()
    assert parameters(repository, "tensorrt_llm")["gpt_model_path"] == str(tmp_path / "b" / "engine" / "target")


def test_its_grammars_are_compiled_for_the_bundles_tokenizer(tmp_path: Path) -> None:
    repository = write_repository(bundle(tmp_path / "b"), tmp_path / "models")
    path = Path(parameters(repository, "tensorrt_llm")["xgrammar_tokenizer_info_path"])
    assert path.is_relative_to(repository)  # where it lies at last, not where it was written
    assert json.loads(path.read_text())["encoded_vocab"][3:5] == ["a", "b"]


def test_free_citations_need_no_tokenizer(tmp_path: Path) -> None:
    repository = write_repository(bundle(tmp_path / "b", serving={"citations": "free"}), tmp_path / "models")
    assert parameters(repository, "tensorrt_llm")["guided_decoding_backend"] == ""
    assert not list(repository.glob("*.json"))


def test_an_engine_over_several_gpus_is_orchestrated(tmp_path: Path) -> None:
    several = bundle(tmp_path / "several", tensor_parallel=2)
    assert backend_environment(several) == {"TRTLLM_ORCHESTRATOR": "1"}
    engine = several.manifest.engine.model_copy(update={"target": "openvino"})
    other = Bundle(several.path, several.manifest.model_copy(update={"engine": engine}))
    assert backend_environment(other) == {}
    assert backend_environment(bundle(tmp_path / "inside", "llmapi", tensor_parallel=2)) == {}


@pytest.mark.parametrize(("target", "mode"), [("tensorrt_llm", "llmapi"), ("openvino", "engine")])
def test_what_runs_inside_the_generator_brings_no_other_model(tmp_path: Path, target: str, mode: str) -> None:
    made = bundle(tmp_path / "b", mode)
    engine = made.manifest.engine.model_copy(update={"target": target})
    made = Bundle(made.path, made.manifest.model_copy(update={"engine": engine}))
    assert models(write_repository(made, tmp_path / "models")) == OURS
