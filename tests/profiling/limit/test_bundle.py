"""From a bundle's files to its work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipstream.engines.openvino.arithmetic import BATCH_INVARIANT, BLOCK_TOKENS, arithmetic_of, fast_arithmetic
from slipstream.engines.protocols import QuantizationSpec, RuntimeOptions
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.memory import kv_bytes_per_token, weight_bytes
from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape
from slipstream.profiling.limit.bundle import find_folder, read_work
from slipstream.profiling.limit.work import LimitUnknown, Work
from tests.profiling.limit.made import CONFIG, HEAD, HEAD_BYTES, LAYER, LAYER_BYTES, ROW_BYTES, write_bundle

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
# Per layer: query, key and value 256 x 32 x (8 + 4), output 256 x 256, three of 256 x 512.
LLAMA_LINEARS = 3 * (256 * 384 + 256 * 256 + 3 * 256 * 512)


def test_an_openvino_bundle_is_counted_from_its_files(tmp_path: Path) -> None:
    found = read_work(write_bundle(tmp_path / "0123abcd"), isa={"avx512f"})
    assert (found.bundle_id, found.target, found.slots, found.roof) == ("0123abcd", "openvino", 8, None)
    assert found.work == Work(
        weight_bytes=HEAD_BYTES + LAYER_BYTES,
        row_bytes=ROW_BYTES,
        parameters=HEAD + LAYER,
        head_parameters=HEAD,
        kv_bytes_per_token=2 * 2 * (2 * 16 + 8 * (16 + 32) / 32),
        attention_width=2 * 4 * 16,
        tokens_per_step=1,
        arithmetic="fast",
        precision="u8",
    )


@pytest.mark.parametrize(
    ("fields", "isa", "precision", "tokens_per_step"),
    [
        ({}, {"avx2"}, "u8", 1),
        ({}, {"avx512f", "avx512_bf16"}, "bf16", 1),
        ({}, {"amx_bf16"}, "bf16", 1),
        ({"serving": {"max_concurrency": 8, "batch_invariant": True}}, {"avx512_bf16"}, "f32", 1),
        ({"draft": {"method": "prompt_lookup", "tokens": 4, "ngram": 3}}, set(), "f32", 5),
    ],
)
def test_the_cache_is_the_one_that_the_runtime_makes(
    tmp_path: Path, fields: dict[str, Any], isa: set[str], precision: str, tokens_per_step: int
) -> None:
    work = read_work(write_bundle(tmp_path / "0123abcd", **fields), isa).work
    arithmetic = BATCH_INVARIANT if precision == "f32" else fast_arithmetic(isa)
    assert arithmetic.properties["KV_CACHE_PRECISION"] == precision
    assert work.kv_bytes_per_token * BLOCK_TOKENS == arithmetic.block_bytes(2, 2, 16)
    assert (work.arithmetic, work.precision) == ("f32" if precision == "f32" else "fast", precision)
    assert work.tokens_per_step == tokens_per_step


def test_this_cpu_is_meant_where_none_is_named(tmp_path: Path) -> None:
    work = read_work(write_bundle(tmp_path / "0123abcd")).work
    assert work.precision == arithmetic_of(RuntimeOptions()).properties["KV_CACHE_PRECISION"]


def test_the_active_bundle_a_beginning_and_a_path_are_found(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "0123abcd")
    (tmp_path / "ACTIVE").write_text("0123abcd\n")
    assert [find_folder(tmp_path, name) for name in (None, "0123", "0123abcd", str(folder))] == [folder] * 4


@pytest.mark.parametrize("reference", [None, "", "0123", "ffff", "..", "../x", "*", "no id at all"])
def test_what_names_no_bundle_is_refused(tmp_path: Path, reference: str | None) -> None:
    (tmp_path / "bundles" / "0123aa").mkdir(parents=True)
    (tmp_path / "bundles" / "0123bb").mkdir()
    with pytest.raises(LimitUnknown):
        find_folder(tmp_path / "bundles", reference)


def cut_manifest(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"id"')


def list_manifest(folder: Path) -> None:
    (folder / "bundle.json").write_text("[]")


def manifest_without(field: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / "bundle.json").read_text())
        del manifest[field]
        (folder / "bundle.json").write_text(json.dumps(manifest))

    return spoil


def no_config(folder: Path) -> None:
    (folder / "engine" / "config.json").unlink()


def config(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: _write(folder / "engine" / "config.json", CONFIG | fields)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def no_ir(folder: Path) -> None:
    (folder / "engine" / "openvino_model.xml").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        cut_manifest, list_manifest, manifest_without("engine"), manifest_without("id"), manifest_without("serving"),
        no_config, no_ir, config(num_hidden_layers=0), config(num_attention_heads=0), config(vocab_size="many"),
    ],
)  # fmt: skip
def test_a_broken_bundle_is_refused_with_a_remedy(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = write_bundle(tmp_path / "0123abcd")
    spoil(folder)
    with pytest.raises(LimitUnknown) as refused:
        read_work(folder)
    assert refused.value.remedy


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitUnknown, match="abacus"):
        read_work(write_bundle(tmp_path / "0123abcd", engine={"target": "abacus"}))


def write_llama(folder: Path, method: str, config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A bundle of a TensorRT-LLM engine as the target writes it; the compiler's own config has the model's inside."""
    group_size = 64
    given = TensorRtLlmOptions.model_validate({"gpu": "h100", **options})
    target = folder / "engine" / "target"
    target.mkdir(parents=True)
    model = LLAMA if config is None else config
    renamed = {"head_size": 32, **model}
    _write(target / "config.json", model if given.mode == "llmapi" else {"pretrained_config": renamed})
    _write(folder / "engine" / "serving.json", {"options": given.model_dump(mode="json")})
    _write(
        folder / "bundle.json",
        {
            "id": folder.name,
            "engine": {"target": "tensorrt_llm"},
            "serving": {"max_concurrency": 64},
            "quantization": {"method": method, "group_size": group_size},
        },
    )
    return folder


@pytest.mark.parametrize("mode", ["engine", "llmapi"])
@pytest.mark.parametrize(("method", "layer_bytes"), [
    ("none", 2 * LLAMA_LINEARS),
    ("awq", LLAMA_LINEARS // 2 + 2 * LLAMA_LINEARS // 64),
    ("fp8", LLAMA_LINEARS),
])  # fmt: skip
def test_a_tensorrt_llm_bundle_is_counted_from_its_shape(
    tmp_path: Path, mode: str, method: str, layer_bytes: int
) -> None:
    found = read_work(write_llama(tmp_path / "0123abcd", method, mode=mode, tensor_parallel=2))
    assert found.work == Work(
        weight_bytes=layer_bytes + 2 * 256 * 1000,
        row_bytes=512,
        parameters=LLAMA_LINEARS + 256 * 1000,
        head_parameters=256 * 1000,
        kv_bytes_per_token=2 * 3 * 2 * 2 * 32,
        attention_width=3 * 8 * 32,
        tokens_per_step=1,
        arithmetic="8-bit" if method == "fp8" else "16-bit",
        precision="16-bit",
    )
    assert found.roof is not None
    assert found.roof.name == "2 x h100"


@pytest.mark.parametrize("dtype", ["auto", "fp8"])
@pytest.mark.parametrize("method", ["none", "awq", "gptq", "fp8"])
def test_a_bundle_reads_no_more_than_the_memory_plan_stores(tmp_path: Path, method: Any, dtype: Any) -> None:
    """The plan counts what lies in memory, so embedding, norms and input scales as well."""
    work = read_work(write_llama(tmp_path / "0123abcd", method, kv_cache={"dtype": dtype})).work
    options = TensorRtLlmOptions.model_validate({"gpu": "h100", "kv_cache": {"dtype": dtype}})
    shape, spec = ModelShape.model_validate(LLAMA), QuantizationSpec(method=method, group_size=64)
    planned = weight_bytes(options, spec, shape)
    # The embedding is a seventh of this model's 16-bit weights, and more of the smaller ones.
    assert planned - 2 * 256 * 1000 - 30_000 < work.weight_bytes < planned
    assert work.kv_bytes_per_token == kv_bytes_per_token(options, spec, shape)


@pytest.mark.parametrize(("speculative", "tokens"), [
    ({"method": "lookahead", "max_ngram_size": 4}, 4),
    ({"method": "draft_target", "max_draft_len": 5, "draft_model": "hf:a/b"}, 6),
])  # fmt: skip
def test_what_a_step_can_gain_by_proposals_is_known(tmp_path: Path, speculative: dict[str, Any], tokens: int) -> None:
    assert read_work(write_llama(tmp_path / "0123abcd", "none", speculative=speculative)).work.tokens_per_step == tokens


@pytest.mark.parametrize("name", ["n_routed_experts", "num_local_experts", "num_experts"])
def test_experts_in_an_openvino_engine_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "0123abcd")
    config(**{name: 8})(folder)
    with pytest.raises(LimitUnknown, match=f"what a model with {name} reads"):
        read_work(folder)


def test_experts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitUnknown, match="n_routed_experts"):
        read_work(write_llama(tmp_path / "0123abcd", "none", {**LLAMA, "n_routed_experts": 64}))


@pytest.mark.parametrize(("method", "config"), [("round", LLAMA), ("awq", {}), ("none", {**LLAMA, "hidden_size": 0})])
def test_a_broken_engine_is_refused(tmp_path: Path, method: str, config: dict[str, Any]) -> None:
    with pytest.raises(LimitUnknown, match="is not a TensorRT-LLM engine"):
        read_work(write_llama(tmp_path / "0123abcd", method, config))
