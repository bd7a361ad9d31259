"""The card of an embedder's adapter: what it learned from, how, and what it finds, for people, beside its weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slipstream.build.training.embedder.evaluate import Finding
from slipstream.build.training.embedder.pairs import Pair, Pairs


def card_text(
    *, command: str, pairs: Pairs, scores: Mapping[str, Finding], params: Mapping[str, Any], train_s: float
) -> str:
    """``CARD.md``; ``scores`` by "base" and "adapter"."""
    return "\n".join(
        [
            f"# LoRA adapter for {params['base_model']}",
            "",
            "Moves questions about code, and the code that answers them, closer to each other.",
            f"Made by `slipstream train-embedder` in {train_s / 60:.0f} minutes of training:",
            "",
            "```console",
            f"$ {command}",
            "```",
            "",
            "Learned from sentences that document a definition, each with the definition without its documentation.",
            f"{scores['base'].questions} held-back sentences of sources never trained on, searched among their chunks,",
            "by cosine alone:",
            "",
            "| model | MRR@10 | recall@1 | recall@10 |",
            "|---|---|---|---|",
            *(_score(who, found) for who, found in scores.items()),
            "",
            "| pairs | n | by language | by source |",
            "|---|---|---|---|",
            *(_counts(name, split) for name, split in (("train", pairs.train), ("held back", pairs.held_back))),
            "",
            "| parameter | value |",
            "|---|---|",
            *(f"| {name} | `{value}` |" for name, value in params.items() if value != ""),
            "",
        ]
    )


def _score(who: str, found: Finding) -> str:
    return f"| {who} | {found.mrr_10:.3f} | {found.recall_1:.1%} | {found.recall_10:.1%} |"


def _counts(name: str, pairs: Sequence[Pair]) -> str:
    columns = (Counter(pair.language for pair in pairs), Counter(pair.package for pair in pairs))
    told = (", ".join(f"{key} {count}" for key, count in counter.most_common()) for counter in columns)
    return f"| {name} | {len(pairs)} | {' | '.join(told)} |"


__all__ = ["card_text"]
