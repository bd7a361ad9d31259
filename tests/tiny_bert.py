"""A sentence encoder small enough for a test: 2 layers, 64 wide, random weights, a WordPiece of single characters.

It is a real sentence-transformers checkpoint, so everything that takes all-MiniLM-L6-v2 takes it as well.
"""

import json
import shutil
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits, punctuation
from tempfile import TemporaryDirectory

from slipstream.build.embedder import EmbedderFacts, export_embedder
from slipstream.build.references import ResolvedModel

DIMENSION, MAX_TOKENS, POSITIONS = 64, 48, 64
TEXTS = ("def add(a, b):\n    return a + b", "class Router:", "x", "", "Ёж и щука", "naïve 東京 🙂", "word " * 200)


def write_tiny_encoder(path: Path, *, pooling: str = "mean", seed: int = 0) -> ResolvedModel:
    """Write config, weights, tokenizer and pooling to ``path``; another seed is another model."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    characters = [*ascii_lowercase, *digits, *punctuation, "ж", "щ"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{letter}" for letter in characters)]
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSION,
        intermediate_size=2 * DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(path, safe_serialization=True)
    BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=512).save_pretrained(path)
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_TOKENS}))
    (path / "1_Pooling").mkdir(exist_ok=True)
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": DIMENSION, f"pooling_mode_{pooling}_tokens": True})
    )
    return ResolvedModel(str(path), path, "0" * 64, "safetensors", "tiny")


def export_tiny_embedder(out: Path, *, seed: int = 0) -> EmbedderFacts:
    """What the build stage makes of it; exported once per seed and process, which takes some seconds."""
    made, facts = _exported(seed)
    shutil.copytree(Path(made.name, "embedder"), out)
    return facts


@cache
def _exported(seed: int) -> tuple[TemporaryDirectory[str], EmbedderFacts]:
    made = TemporaryDirectory()  # goes when the process does
    model = write_tiny_encoder(Path(made.name, "checkpoint"), seed=seed)
    return made, export_embedder(
        model, TEXTS, Path(made.name, "embedder"), lambda share, doing: None, minimum_cosine=0.9
    )
