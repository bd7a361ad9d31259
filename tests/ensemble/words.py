"""A tokenizer small enough to read: whole words, and single bytes for what is no word."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from slipstream.ensemble.tokenizer import ChatTokenizer

WORDS = ["Ġ", "yes", "no", "Ġyes", "Ġno", "[", "]", "1", "2", "9", "Ġ[", "stop", "END", "."]
SPECIAL = ["<|im_start|>", "<|im_end|>"]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def write_tokenizer(folder: Path, context_length: int = 512) -> ChatTokenizer:
    """A byte-level tokenizer in the layout of a bundle's ``tokenizer/``, opened."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *WORDS]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
    special = {
        "bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "eos_token_ids": [1], "context_length": context_length,
    }  # fmt: skip
    (folder / "special_tokens.json").write_text(json.dumps(special), encoding="utf-8")
    return ChatTokenizer(folder)
