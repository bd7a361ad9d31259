"""The text of every token, in the form that OpenVINO GenAI compiles grammars for.

An engine folder has no tokenizer, because the runtime is driven with token ids. A grammar speaks of text, so a runtime
that follows one is told the ``tokenizer.json``. Only its vocabulary is needed, not how it splits text.
"""

import json
import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# The library tells XGrammar of one end-of-sequence token at most, and a model can have several: XGrammar would take
# the others for special tokens, which it never offers, or for text. So each has this text, and `with_end` allows it at
# the end only. Tokens that really spell it are withdrawn.
_END = "\x03"
_ROOT = re.compile(r"^root ::=", re.MULTILINE)


def token_bytes(tokenizer: Path, vocabulary_size: int, stop_token_ids: Collection[int]) -> list[bytes]:
    """The bytes of token 0 to ``vocabulary_size - 1`` of a byte-level ``tokenizer.json``.

    Special tokens, and ids that no token has, are empty: they are never part of an answer. A stop token is U+0003.

    Raises:
        OSError, ValueError, KeyError, TypeError: no such tokenizer, or one of another model.
    """
    told: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
    byte_of = _bytes_by_letter()
    pieces = [b""] * vocabulary_size
    added = {token["id"]: token for token in told["added_tokens"]}
    for text, token in told["model"]["vocab"].items():
        if token not in added:
            pieces[_within(token, vocabulary_size)] = bytes(byte_of[letter] for letter in text)
    for token, entry in added.items():
        pieces[_within(token, vocabulary_size)] = b"" if entry["special"] else entry["content"].encode()
    pieces = [b"" if _END.encode() in piece else piece for piece in pieces]
    for token in stop_token_ids:
        pieces[_within(token, vocabulary_size)] = _END.encode()
    return pieces


def with_end(grammar: str) -> str:
    """``grammar`` for a vocabulary of `token_bytes`: what may end may be followed by a stop token.

    Raises:
        ValueError: it has no rule ``root``.
    """
    ended, roots = _ROOT.subn("sentence ::=", grammar)
    if roots != 1:
        raise ValueError("the grammar has to have one rule 'root', at the beginning of a line")
    return f'{ended}\nroot ::= sentence "\\x03"?\n'


def _within(token: int, vocabulary_size: int) -> int:
    if not 0 <= token < vocabulary_size:
        raise ValueError(f"token {token} is outside the engine's vocabulary of {vocabulary_size}")
    return token


def _bytes_by_letter() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


@cache
def _operations() -> Any:
    """Makes operations of OpenVINO Tokenizers; kept, because their code is unloaded with what made them."""
    from openvino.utils.node_factory import NodeFactory
    from openvino_tokenizers import _ext_path  # there is no public name for it

    factory = NodeFactory()
    factory.add_extension(str(_ext_path))
    return factory


def vocabulary_model(pieces: Sequence[bytes]) -> Any:
    """A detokenizer (`openvino.Model`): token ids INT64 [batch, length] to strings [batch]."""
    import numpy as np
    from openvino import Model, PartialShape, Tensor, Type, op
    from openvino import opset15 as opset

    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int32)
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int32)
    characters = np.frombuffer(b"".join(pieces), np.uint8)
    table = [op.Constant(Tensor(values)).output(0) for values in (begins, ends, characters)]
    ids = op.Parameter(Type.i64, PartialShape(["?", "?"]))
    narrow = opset.convert(ids, Type.i32)
    *ragged, spelled = _operations().create("VocabDecoder", [narrow.output(0), *table]).outputs()
    fused = _operations().create("FuzeRagged", ragged).outputs()
    strings = opset.string_tensor_pack(*fused, spelled).output(0)
    return Model([strings], [ids], "detokenizer")
