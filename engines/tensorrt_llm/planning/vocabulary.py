"""Do target and draft speak the same tokens? TensorRT-LLM never asks, and accepts nothing where they do not."""

import json
from pathlib import Path
from typing import Any

from slipstream import InputError


class VocabularyMismatch(InputError):
    """The draft's token ids mean other text than the target's."""


def require_same_vocabulary(target: Path, draft: Path) -> None:
    """Compare the ``tokenizer.json`` of two checkpoints: every token and its id.

    The embeddings may have different numbers of rows: they are padded, and padding is never a token.

    Raises:
        VocabularyMismatch: with the first token that differs.
    """
    ours, theirs = _tokens(target), _tokens(draft)
    if ours != theirs:
        differing = sorted(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))
        text, number = differing[0]
        raise VocabularyMismatch(
            f"target and draft have different vocabularies: {len(differing)} entries differ, the first is "
            f"token {number}, {text[:40]!r}",
            "choose a draft of the target's own family, or speculative.method: none",
        )


def _tokens(checkpoint: Path) -> dict[str, int]:
    path = checkpoint / "tokenizer.json"
    try:
        tokenizer: dict[str, Any] = json.loads(path.read_bytes())
        vocabulary: dict[str, int] = dict(tokenizer["model"]["vocab"])
        return vocabulary | {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VocabularyMismatch(
            f"{path} tells no vocabulary: {error}", "put the model's tokenizer.json beside its weights"
        ) from error


__all__ = ["VocabularyMismatch", "require_same_vocabulary"]
