"""The card of an adapter: what it is, how it was made and how it did, for people, beside its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipstream.build.training.evaluate import Citing

CARD = "CARD.md"
_GROUPS = {
    "all": "all",
    "package": "about packages never trained on",
    "symbol": "about symbols never trained on",
    "en": "in English",
    "ru": "in Russian",
}
_MEASURES = {
    "cited": "≥ 1 valid citation",
    "gold": "cites the right context",
    "clean": "every mark names a context",
    "finished": "ends by itself",
}


def write_card(folder: Path, *, params: Mapping[str, Any], scores: Mapping[str, Mapping[str, Citing]]) -> None:
    """Write ``CARD.md`` into ``folder``; ``scores`` by "base" and "adapter", then by group."""
    groups = [name for name in _GROUPS if name in scores["adapter"]]
    head = " | ".join(_MEASURES.values())
    rows = [
        f"| {_GROUPS[group]} | {scores[who][group].questions} | {who} | "
        + " | ".join(f"{getattr(scores[who][group], measure):.1%}" for measure in _MEASURES)
        + " |"
        for group in groups
        for who in ("base", "adapter")
    ]
    listed = [f"| {name} | `{value}` |" for name, value in params.items() if value != ""]
    text = "\n".join(
        [
            f"# LoRA adapter for {params['base_model']}",
            "",
            "Teaches the base model to answer from numbered context and to cite it as `[n]`.",
            "Made by `slipstream train`.",
            "",
            "Answers to held-back questions, greedy, same prompts for both:",
            "",
            f"| questions | n | model | {head} |",
            "|---|---|---|" + "---|" * len(_MEASURES),
            *rows,
            "",
            "| parameter | value |",
            "|---|---|",
            *listed,
            "",
        ]
    )
    (folder / CARD).write_text(text, encoding="utf-8")


__all__ = ["CARD", "write_card"]
