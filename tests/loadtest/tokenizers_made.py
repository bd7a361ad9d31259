"""Tokenizers small enough for a test, each of a real kind."""

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "loadtest" / "schedule").glob("*.py"))[:6]
]


def write_byte_level(folder: Path, *, words: int = 4000) -> Path:
    """As of GPT-2 and its heirs: byte-level BPE, a word with the space before it, and a ChatML template beside it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    made.train_from_iterator(_TEXT, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def write_word_piece(folder: Path) -> Path:
    """As of BERT: it adds a token at either end, and its file says to cut at 8 tokens and to fill up to them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    made.train_from_iterator(
        _TEXT, trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    made.enable_truncation(8)
    made.enable_padding(length=8, pad_id=made.token_to_id("[PAD]"), pad_token="[PAD]")
    return _save(made, folder)


def write_without_spaces(folder: Path) -> Path:
    """BPE that sees whole sentences: neighbouring words merge, so the tokens of a text are no sum over its words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    lines = [line for text in _TEXT for line in text.splitlines()]
    made.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=2000, show_progress=False))
    return _save(made, folder)


def write_letters(folder: Path) -> Path:
    """Every character is a token: there are no words to make prompts of."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(
        models.WordLevel({letter: index for index, letter in enumerate("abcdefghijklmnop?")}, unk_token="?")
    )
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return _save(made, folder)


def _save(made: "object", folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]
    return folder
