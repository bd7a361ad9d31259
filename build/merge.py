"""Merge: fold a LoRA adapter into its base model, and prove that the merged model is the one that was trained."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import GateError
from slipstream.build.adapter_fit import check_adapter
from slipstream.build.checkpoint import load_checkpoint, save_checkpoint
from slipstream.build.references import ResolvedModel
from slipstream.engines.protocols import Progress
from slipstream.ensemble import citations, prompt
from slipstream.ensemble.retrieval.store import Chunk

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TOLERANCE = 1e-3
"""Largest logit difference that folding may make in fp32: W·x + B·A·x against (W + B·A)·x differ by rounding alone."""


class MergeDisagrees(GateError):
    """Merged model and adapter model give different logits."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What the comparison saw: logits over ``tokens`` positions of real prompts, largest absolute differences.

    ``adapter_effect`` compares the adapter model with the bare base on the first of the prompts: 0 would be an adapter
    that does nothing.
    """

    max_abs_difference: float
    tolerance: float
    adapter_effect: float
    tokens: int


def merge_adapter(
    base: ResolvedModel, adapter: Path | None, out: Path, tolerance: float = TOLERANCE, progress: Progress | None = None
) -> MergeReport:
    """Write the merged fp32 checkpoint of ``base`` and ``adapter`` to ``out``; without an adapter, the base itself.

    Raises:
        InputError: the adapter is not acceptable or does not fit (see `slipstream.build.adapter_fit`).
        MergeDisagrees: some logit differs by more than ``tolerance``; nothing is written.
    """
    tell = progress or (lambda share, doing: None)
    if adapter is not None:
        tell(0.0, "checking the adapter")
        check_adapter(adapter, base)
    tell(0.1, f"loading {base.slug}")
    model, tokenizer = load_checkpoint(base)
    report = MergeReport(0.0, tolerance, 0.0, 0)
    if adapter is not None:
        model, report = _fold(model, tokenizer, adapter, tolerance, tell)
    tell(0.9, "writing the checkpoint")
    save_checkpoint(model, tokenizer, out)
    tell(1.0, "merged" if adapter else "kept the base model as it is")
    return report


def _fold(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", adapter: Path, tolerance: float, tell: Progress
) -> "tuple[PreTrainedModel, MergeReport]":
    from peft import PeftModel

    prompts = real_prompts(tokenizer)
    tell(0.4, "logits of the base model")
    bare = _logits(model, prompts[:1])
    tell(0.5, "logits with the adapter")
    tuned: Any = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    with_adapter = _logits(tuned, prompts)
    tell(0.7, "folding")
    merged = tuned.merge_and_unload(safe_merge=True)
    difference = _largest_difference(with_adapter, _logits(merged, prompts))
    effect = _largest_difference(with_adapter[:1], bare)
    # A NaN compares false with everything: ask for "within", not for "beyond".
    if not difference <= tolerance:
        raise MergeDisagrees(
            f"the merged model's logits differ from the adapter model's by {difference:.2e}, tolerance {tolerance:.0e}",
            "train the adapter again; weights this large do not survive folding",
        )
    return merged, MergeReport(difference, tolerance, effect, sum(len(ids) for ids in prompts))


def real_prompts(tokenizer: "PreTrainedTokenizerFast") -> list[list[int]]:
    """Token ids of three prompts as serving renders them, over this package's own source."""
    sources = (prompt.render_context, prompt.render_messages, citations.resolve, citations.cited_numbers)
    chunks = [_chunk(source) for source in sources]
    questions = ("How are contexts numbered?", "Which marks are left out of an answer?", "Что делает cited_numbers?")
    rotated = [chunks[turn:] + chunks[:turn] for turn in range(len(questions))]
    return [
        tokenizer.encode(
            str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)),
            add_special_tokens=False,
        )
        for messages in map(prompt.render_messages, questions, rotated)
    ]


def _chunk(function: Any) -> Chunk:
    lines, start = inspect.getsourcelines(function)
    path = function.__module__.replace(".", "/") + ".py"
    text = "".join(lines)
    return Chunk(path, "python", function.__name__, start, start + len(lines) - 1, text, "slipstream", digest="")


def _logits(model: Any, prompts: Sequence[Sequence[int]]) -> "list[torch.Tensor]":
    """Logits [length, vocabulary] of each prompt."""
    import torch

    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0] for ids in prompts]


def _largest_difference(left: "Sequence[torch.Tensor]", right: "Sequence[torch.Tensor]") -> float:
    return max(float((one - other).abs().max()) for one, other in zip(left, right, strict=True))


__all__ = ["TOLERANCE", "MergeDisagrees", "MergeReport", "merge_adapter", "real_prompts"]
