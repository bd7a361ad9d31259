"""Perplexity and divergence of what was quantized, against what it was quantized from, on held-out text."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from slipstream.build.evaluation.likelihood import Likelihood, compare
from slipstream.build.evaluation.texts import HeldOut, windows
from slipstream.build.options import EvaluationOptions
from slipstream.engines.protocols import Progress, Target
from slipstream.ensemble.tokenizer import ChatTokenizer


def quality(
    engine: Target,
    quantized: Path,
    reference: Path,
    texts: HeldOut,
    tokenizer: ChatTokenizer,
    options: EvaluationOptions,
    progress: Progress,
) -> dict[str, Any]:
    """By kind of text (``code``, ``prose``) the fields of `Likelihood` and ``rise``; None for what is no number.

    Args:
        quantized, reference: what ``engine`` quantized, and what it did with the method ``none``.
    """
    kinds: dict[str, Sequence[list[int]]] = {
        kind: windows(documents, tokenizer.encode, options.tokens, options.window, kind)
        for kind, documents in (("code", texts.code), ("prose", texts.prose))
    }
    progress(0.02, "loading")
    model, exact = engine.scorer(quantized), engine.scorer(reference, exact=True)
    found: dict[str, Any] = {}
    for number, (kind, sequences) in enumerate(kinds.items()):

        def advance(share: float, kind: str = kind, number: int = number) -> None:
            progress(0.05 + 0.95 * (number + share) / len(kinds), f"perplexity of {kind}")

        found[kind] = _fields(compare(model, exact, sequences, advance))
    return found


def _fields(likelihood: Likelihood) -> dict[str, Any]:
    numbers = {**asdict(likelihood), "rise": likelihood.rise}
    return {name: _rounded(value) for name, value in numbers.items()}


def _rounded(value: float) -> float | None:
    if isinstance(value, int):
        return value
    return round(value, 5) if isfinite(value) else None


__all__ = ["quality"]
