"""Shapes that a plan is made from, held against the parameter counts that the models' authors publish."""

import json
from pathlib import Path

import pytest

from slipstream.engines.tensorrt_llm.planning.shapes import ModelShape, ShapeUnknown, known_shape, read_shape
from tests.tiny_llama import write_tiny_checkpoint

# huggingface.co counts them from the safetensors headers of each repository.
PUBLISHED = {
    "hf:meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "hf:Qwen/Qwen2.5-Coder-7B-Instruct": 7_615_616_512,
    "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct": 494_032_768,
    "hf:deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct": 15_706_484_224,
}


def parameters(shape: ModelShape) -> int:
    linears = sum(linear.inputs * linear.outputs * linear.count for linear in shape.linears())
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return linears + embeddings + shape.plain_weights


@pytest.mark.parametrize("reference", PUBLISHED)
def test_every_weight_of_a_known_model_is_counted(reference: str) -> None:
    shape = known_shape(f"{reference}@abc")
    assert shape is not None
    assert parameters(shape) == PUBLISHED[reference]


def test_a_model_nobody_listed_is_not_guessed() -> None:
    assert known_shape("hf:someone/something") is None


def test_a_checkpoint_tells_its_own_shape(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    checkpoint = write_tiny_checkpoint(tmp_path / "tiny")
    stored = sum(tensor.numel() for tensor in load_file(checkpoint / "model.safetensors").values())
    assert parameters(read_shape(checkpoint)) == stored


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "No such file"),
        ("[]", "valid dictionary"),
        ("{", "Expecting"),
        ('{"architectures": ["LlamaForCausalLM"]}', "model_type: Field required"),
        ({"num_key_value_heads": 5}, "32 heads do not share 5 KV heads evenly"),
        ({"num_attention_heads": 0}, "greater than or equal to 1"),
    ],
)
def test_a_config_that_tells_no_shape(tmp_path: Path, config: str | dict[str, int] | None, said: str) -> None:
    good = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 320,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "max_position_embeddings": 64,
    }
    if config is not None:
        text = config if isinstance(config, str) else json.dumps({**good, **config})
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ShapeUnknown, match=said):
        read_shape(tmp_path)


def test_tensor_parallelism_cuts_each_matrix_on_its_own_side() -> None:
    shape = known_shape("hf:meta-llama/Llama-3.1-8B-Instruct")
    assert shape is not None
    halves = {linear.name: linear.on_one_of(2) for linear in shape.linears()}
    assert (halves["attention.qkv"].inputs, halves["attention.qkv"].outputs) == (4096, 3072)
    assert (halves["attention.dense"].inputs, halves["attention.dense"].outputs) == (2048, 4096)
    assert (halves["mlp.proj"].inputs, halves["mlp.proj"].outputs) == (7168, 4096)


def test_more_gpus_than_kv_heads_hold_the_same_head_twice() -> None:
    shape = known_shape("hf:meta-llama/Llama-3.1-8B-Instruct")
    assert shape is not None
    of_two = shape.model_copy(update={"num_key_value_heads": 2})
    qkv = next(iter(of_two.linears()))
    assert qkv.outputs == (32 + 2 * 2) * 128
    assert qkv.on_one_of(2).outputs == (16 + 2) * 128
    assert qkv.on_one_of(8).outputs == (4 + 2) * 128  # one K and one V head on each, though there are eight GPUs


def test_a_latent_cache_is_a_ninth_of_the_heads_it_stands_for() -> None:
    shape = known_shape("hf:deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct")
    assert shape is not None
    assert shape.kv_values_per_token == 27 * (512 + 64)
    heads = shape.model_copy(update={"kv_lora_rank": None, "head_dim": 192})
    assert shape.kv_values_per_token * 9 < heads.kv_values_per_token
