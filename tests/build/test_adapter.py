"""An adapter on disk: what is refused before any weight is loaded, and why."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slipstream.build.adapter import AdapterInvalid, AdapterRankUnfit, read_adapter
from slipstream.build.adapter_fit import AdapterBaseMismatch, AdapterTargetsUnfit, check_adapter
from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.build.weights import PickleRefused, WeightsDamaged
from tests.build.lora import QUERIES, write_lora
from tests.tiny_llama import write_tiny_checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    """64 wide, two layers."""
    home = tmp_path_factory.mktemp("base")
    return resolve_model(str(write_tiny_checkpoint(home / "llama")), home)


def test_an_adapter_is_read_without_its_weights(tmp_path: Path, base: ResolvedModel) -> None:
    adapter = check_adapter(write_lora(tmp_path), base)
    assert (adapter.rank, adapter.modules) == (4, {QUERIES: (64, 64)})
    assert adapter.provenance is None


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        ({"peft_type": "IA3"}, AdapterInvalid, "adapter of type 'IA3'"),
        ({"use_dora": True}, AdapterInvalid, "more than LoRA matrices"),
        ({"bias": "all"}, AdapterInvalid, "more than LoRA matrices"),
        ({"modules_to_save": ["lm_head"]}, AdapterInvalid, "more than LoRA matrices"),
        ({"r": 8}, AdapterRankUnfit, "has matrices of rank 4 and 4, adapter_config.json says 8"),
        ({"r": 0}, AdapterRankUnfit, "has rank 0"),
        ({"r": True}, AdapterRankUnfit, "has rank True"),
        ({"r": "4"}, AdapterRankUnfit, "has rank '4'"),
        ({"rank_pattern": {"q_proj": 2}}, AdapterRankUnfit, "adapter_config.json says 2"),
        ({"rank_pattern": ["a"]}, AdapterInvalid, "rank_pattern"),
        ({"rank_pattern": "a"}, AdapterInvalid, "rank_pattern"),
        ({"rank_pattern": {"(": 3}}, AdapterInvalid, "rank_pattern"),
        ({"rank_pattern": {"q_proj": "4"}}, AdapterInvalid, "rank_pattern: a rank is a whole number"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_merged_is_refused(
    tmp_path: Path, config: dict[str, Any], error: type[AdapterInvalid], told: str
) -> None:
    with pytest.raises(error) as refused:
        read_adapter(write_lora(tmp_path, **config))
    assert told in refused.value.message
    assert refused.value.remedy


def test_a_rank_of_its_own_is_taken_for_the_modules_that_it_names(tmp_path: Path) -> None:
    assert read_adapter(write_lora(tmp_path, r=16, rank_pattern={"o_proj": 2, "q_proj": 4})).rank == 16


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, "[]", "\x00"], ids=["empty", "cut", "deep", "list", "NUL"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (write_lora(tmp_path) / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterInvalid):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("modules", "error", "told"),
    [
        ({"model.layers.7.self_attn.q_proj": (64, 64)}, AdapterTargetsUnfit, "which .* does not have"),
        ({"model.embed_tokens": (320, 64)}, AdapterTargetsUnfit, "which .* does not have"),
        ({QUERIES: (128, 128)}, AdapterTargetsUnfit, "is 64 → 64 in .*, 128 → 128 in the adapter"),
    ],
)
def test_modules_that_the_base_lacks_are_named(
    tmp_path: Path, base: ResolvedModel, modules: dict[str, tuple[int, int]], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        check_adapter(write_lora(tmp_path, modules), base)


def test_a_rank_beyond_the_width_is_refused(tmp_path: Path, base: ResolvedModel) -> None:
    with pytest.raises(AdapterRankUnfit, match="rank 65 exceeds the width"):
        check_adapter(write_lora(tmp_path, rank=65), base)


def test_an_adapter_of_another_base_is_refused_by_its_name(tmp_path: Path, base: ResolvedModel) -> None:
    with pytest.raises(AdapterBaseMismatch, match="Qwen"):
        check_adapter(write_lora(tmp_path, base_model_name_or_path="Qwen/Qwen2-0.5B"), base)
    named = write_lora(tmp_path / "named", base_model_name_or_path=f"somebody/{base.path.name}-Instruct")
    assert check_adapter(named, base).modules


def test_provenance_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    told = write_lora(tmp_path) / "slipstream.json"
    told.mkdir()
    with pytest.raises(AdapterInvalid, match=r"slipstream\.json: Is a directory"):
        read_adapter(tmp_path)
    told.rmdir()
    for text in ("{", "[" * 200_000, json.dumps({"base_model": "x"})):
        told.write_text(text)
        with pytest.raises(AdapterInvalid, match=r"slipstream\.json"):
            read_adapter(tmp_path)


@pytest.mark.parametrize(
    "start", [b"\x80\x02}q\x00.", b"PK\x03\x04rest of a zip archive"], ids=["pickle", "torch.save"]
)
def test_a_pickle_is_refused_under_every_name(tmp_path: Path, start: bytes) -> None:
    """Renaming does not make it safe: whoever opens it runs what is inside."""
    weights = write_lora(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(start)
    with pytest.raises(PickleRefused, match="would run whatever code is inside"):
        read_adapter(tmp_path)
    weights.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(PickleRefused, match=r"adapter_model\.bin"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").unlink()
    with pytest.raises(AdapterInvalid, match="has no adapter_model"):
        read_adapter(tmp_path)


def test_weights_that_are_cut_or_padded_anywhere_are_refused(tmp_path: Path) -> None:
    whole = (write_lora(tmp_path) / "adapter_model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for damaged in (b"", whole[:4], whole[:20], whole[:header], whole[:-1], whole + b"x"):
        (tmp_path / "adapter_model.safetensors").write_bytes(damaged)
        with pytest.raises(WeightsDamaged, match="is truncated or no safetensors file"):
            read_adapter(tmp_path)
    deep = b"[" * 200_000
    (tmp_path / "adapter_model.safetensors").write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(WeightsDamaged):
        read_adapter(tmp_path)


def test_half_an_adapter_is_none(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = write_lora(tmp_path) / "adapter_model.safetensors"
    matrices = load_file(weights)
    save_file({key: matrix for key, matrix in matrices.items() if "lora_A" in key}, weights)
    with pytest.raises(AdapterInvalid, match="only one of two matrices"):
        read_adapter(tmp_path)
    save_file({"lm_head.weight": matrices[min(matrices)]}, weights)
    with pytest.raises(AdapterInvalid, match="is no LoRA matrix"):
        read_adapter(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(AdapterInvalid, match="is no adapter"):
        read_adapter(tmp_path)
