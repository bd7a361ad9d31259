"""Bundles: what their manifest says, and that they are whole or absent."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from slipstream.build import durable
from slipstream.build.bundle import assemble, existing, keep_evaluation, manifest_of
from slipstream.build.stages import Outputs
from slipstream.ensemble.bundle import Bundle, BundleCorrupt
from slipstream.ensemble.manifest import EVALUATION, SIGNATURE, Manifest
from slipstream.ensemble.prompt import PROMPT
from tests.build.bundles import ADAPTER, BASE, EMBEDDER, FACTS, RECIPE, flip, outputs_in, silent
from tests.build.evaluation.test_table import evaluation


def test_a_manifest_says_where_everything_comes_from(manifest: Manifest) -> None:
    assert manifest.release_name == "production-v2.1-smollm2-135m-gptq-p1"
    lineage = manifest.lineage
    assert (lineage.base_model, lineage.base_model_sha256) == (BASE.reference, BASE.sha256)
    assert lineage.adapter is not None
    assert lineage.adapter.model_dump() == {
        "name": "code-assistant", "version": "3", "run_id": "run7", "sha256": "a" * 64,
    }  # fmt: skip
    assert lineage.calibration_sha256 == "c" * 64
    assert (lineage.prompt_id, lineage.prompt_sha256) == (PROMPT.id, PROMPT.digest)
    assert manifest.recipe["quantization"]["group_size"] == 32
    assert manifest.quantization == RECIPE.quantization.effective() | {"four_bit_share": 0.79}
    assert manifest.engine.versions == {"nncf": "3.4.0", "openvino": "2026.4.1"}
    assert manifest.engine.fingerprint == FACTS["compile"]["fingerprint"]
    assert manifest.embedder.digest == "d" * 64
    assert manifest.context_length == 8192
    assert manifest.tokenizer_sha256 in {entry.sha256 for entry in manifest.files}


def test_a_bundle_holds_engine_tokenizer_and_embedder_and_no_checkpoint(bundle: Bundle) -> None:
    files = {path.relative_to(bundle.path).as_posix(): path for path in bundle.path.rglob("*") if path.is_file()}
    assert sorted(files) == [
        "bundle.json",
        "embedder/embedder.json",
        "embedder/model.onnx",
        "embedder/tokenizer.json",
        "engine/openvino_model.bin",
        "engine/openvino_model.xml",
        "sbom.cdx.json",
        "tokenizer/chat_template.jinja",
        "tokenizer/special_tokens.json",
        "tokenizer/tokenizer.json",
    ]
    assert files["engine/openvino_model.bin"].read_bytes() == b"weights"
    assert bundle.path.name == bundle.manifest.id
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o444}
    assert not list(bundle.problems())


def test_equal_inputs_give_the_same_bundle_wherever_they_are_built(
    tmp_path: Path, manifest: Manifest, outputs: Outputs
) -> None:
    elsewhere = outputs_in(tmp_path / "elsewhere")
    assert manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, elsewhere).id == manifest.id
    assert str(tmp_path) not in manifest.model_dump_json()


def test_any_fact_that_changed_gives_another_bundle(tmp_path: Path, manifest: Manifest) -> None:
    colder = outputs_in(tmp_path / "colder", compile={"fingerprint": {"os": "linux", "arch": "aarch64"}})
    assert manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, colder).id != manifest.id
    without_adapter = manifest_of(RECIPE, BASE, None, EMBEDDER, outputs_in(tmp_path / "same"))
    assert without_adapter.id != manifest.id
    assert without_adapter.lineage.adapter is None


def test_a_bundle_that_is_there_is_taken_as_it_is(tmp_path: Path, bundle: Bundle, outputs: Outputs) -> None:
    before = (bundle.path / "bundle.json").stat()
    again, status = assemble(bundle.manifest, outputs, tmp_path / "bundles", silent)
    assert status == "cached"
    assert (again.path / "bundle.json").stat().st_ino == before.st_ino


def test_damaging_a_bundle_does_not_damage_what_it_is_made_anew_from(
    tmp_path: Path, bundle: Bundle, outputs: Outputs
) -> None:
    flip(bundle.engine_dir / "openvino_model.bin")
    assert all(record.is_sound() for record in outputs.values())
    assert existing(tmp_path / "bundles", bundle.manifest) is None
    again, status = assemble(bundle.manifest, outputs, tmp_path / "bundles", silent)
    assert status == "ran"
    assert not list(again.problems())


def test_a_bundle_under_construction_is_no_bundle(tmp_path: Path, manifest: Manifest, outputs: Outputs) -> None:
    seen: list[bool] = []

    def watch(share: float, doing: str) -> None:
        home = tmp_path / "bundles"
        seen.append((home / manifest.id).exists() or bool(list(home.glob("*/bundle.json"))))

    assemble(manifest, outputs, tmp_path / "bundles", watch)
    assert len(seen) > 3
    assert not any(seen)


def test_a_source_that_changed_under_the_copy_makes_no_bundle(
    tmp_path: Path, manifest: Manifest, outputs: Outputs
) -> None:
    flip(outputs["compile"].folder / "openvino_model.bin")
    with pytest.raises(BundleCorrupt, match=r"engine/openvino_model\.bin was changed"):
        assemble(manifest, outputs, tmp_path / "bundles", silent)
    assert not list((tmp_path / "bundles").glob("*/bundle.json"))
    assert not list((tmp_path / "bundles" / ".aside").iterdir())


def test_a_link_that_leads_nowhere_in_place_of_a_bundle_gives_way(
    tmp_path: Path, manifest: Manifest, outputs: Outputs
) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / manifest.id).symlink_to("/nowhere")
    made, status = assemble(manifest, outputs, tmp_path / "bundles", silent)
    assert status == "ran"
    assert not made.path.is_symlink()


OPTIONS_OF_THE_FIRST_BUNDLES = (
    "context_tokens", "max_concurrency", "max_waiting", "max_output_tokens", "kv_cache_bytes", "stream_interval",
)  # fmt: skip


def test_a_bundle_from_before_an_option_keeps_its_id(manifest: Manifest) -> None:
    before = manifest.model_dump(mode="json", exclude={"id"})
    before["serving"] = {name: before["serving"][name] for name in OPTIONS_OF_THE_FIRST_BUNDLES}
    assert before["embedder"].pop("adapter") is None
    old_id = sha256(json.dumps(before, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
    assert Manifest.model_validate({**before, "id": old_id}).computed_id() == old_id
    free = manifest.model_copy(update={"serving": manifest.serving.model_copy(update={"citations": "free"})})
    assert free.computed_id() != manifest.id


# --- what was measured ------------------------------------------------------------------------------------------------


def kept(bundle: Bundle) -> str:
    return (bundle.path / EVALUATION).read_text(encoding="utf-8")


def test_what_was_measured_anew_takes_the_place_of_what_was_measured_before(bundle: Bundle) -> None:
    keep_evaluation(bundle, evaluation())
    before = kept(bundle)
    keep_evaluation(bundle, evaluation(kl=0.09))
    assert '"kl": 0.09' in kept(bundle) != before
    assert not list(bundle.problems())
    assert not list((bundle.path.parent / ".aside").iterdir())


def test_a_build_killed_while_it_writes_what_was_measured_leaves_the_bundle_sound(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_evaluation(bundle, evaluation())
    before = kept(bundle)
    seen: list[list[str]] = []

    def look(path: Path) -> None:
        """Where the process would be killed: all is written and nothing renamed."""
        seen.append(list(bundle.problems()))
        raise KeyboardInterrupt

    monkeypatch.setattr(durable, "sync", look)
    with pytest.raises(KeyboardInterrupt):
        keep_evaluation(bundle, evaluation(kl=0.09))
    assert seen == [[]]
    assert kept(bundle) == before


def test_a_signed_bundle_keeps_what_was_signed(bundle: Bundle) -> None:
    keep_evaluation(bundle, evaluation())
    before = kept(bundle)
    (bundle.path / SIGNATURE).write_text("signed")
    keep_evaluation(bundle, evaluation(kl=0.09))
    assert kept(bundle) == before


def test_what_was_measured_and_cannot_be_read_is_written_anew(bundle: Bundle) -> None:
    (bundle.path / EVALUATION).write_bytes(b"\xff\xfe")
    keep_evaluation(bundle, evaluation())
    assert kept(bundle).startswith("{")
