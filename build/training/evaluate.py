"""Does the adapter do its job? Answers to held-back questions, adapter on and off, same prompts, greedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipstream.build.training.dataset import Sample
from slipstream.engines.protocols import Progress
from slipstream.ensemble.citations import cited_numbers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

MAX_NEW_TOKENS = 96
_BATCH = 12


@dataclass(frozen=True, slots=True)
class Citing:
    """Shares of the answers, 0..1.

    Attributes:
        cited: answers with at least one mark ``[n]`` that names a context of the prompt.
        gold: answers that cite a context the question was made from.
        clean: answers whose every mark names a context, among those with a mark; 1 when none has any.
        finished: answers that ended by themselves within `MAX_NEW_TOKENS`.
    """

    questions: int
    cited: float
    gold: float
    clean: float
    finished: float


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finished: bool


def score(samples: Sequence[Sample], answers: Sequence[Answer]) -> Citing:
    """Count citations; ``answers[i]`` belongs to ``samples[i]``."""
    cited = gold = marked = clean = 0
    for sample, answer in zip(samples, answers, strict=True):
        numbers = cited_numbers(answer.text)
        valid = [number for number in numbers if 1 <= number <= len(sample.contexts)]
        cited += bool(valid)
        gold += not set(valid).isdisjoint(sample.gold)
        marked += bool(numbers)
        clean += bool(numbers) and valid == numbers
    count = max(len(samples), 1)
    finished = sum(answer.finished for answer in answers) / count
    return Citing(len(samples), cited / count, gold / count, clean / marked if marked else 1.0, finished)


def score_groups(samples: Sequence[Sample], answers: Sequence[Answer]) -> dict[str, Citing]:
    """`score` over all, and by what was held back (``package``, ``symbol``) and by language (``en``, ``ru``)."""
    groups: dict[str, list[int]] = {"all": list(range(len(samples)))}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.split, []).append(index)
        groups.setdefault(sample.language, []).append(index)
    return {
        name: score([samples[index] for index in indices], [answers[index] for index in indices])
        for name, indices in groups.items()
    }


def answer_all(
    model: "torch.nn.Module", tokenizer: "PreTrainedTokenizerFast", samples: Sequence[Sample], progress: Progress
) -> list[Answer]:
    """Greedy answers in the order of ``samples``; prompts of like length share a batch."""
    prompts = [
        tokenizer.encode(
            str(tokenizer.apply_chat_template(sample.messages, tokenize=False, add_generation_prompt=True)),
            add_special_tokens=False,
        )
        for sample in samples
    ]
    order = sorted(range(len(samples)), key=lambda index: len(prompts[index]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        answers.update(zip(batch, _generate(model, tokenizer, [prompts[index] for index in batch]), strict=True))
        progress(len(answers) / len(samples), f"{len(answers)} of {len(samples)} answers")
    return [answers[index] for index in range(len(samples))]


def _generate(model: Any, tokenizer: "PreTrainedTokenizerFast", prompts: Sequence[Sequence[int]]) -> list[Answer]:
    import torch

    longest = max(map(len, prompts))
    pad = int(str(tokenizer.eos_token_id))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ends = model.generation_config.eos_token_id
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=pad
        )
    answers: list[Answer] = []
    for row in output[:, longest:].tolist():
        end = next((at for at, token in enumerate(row) if token in ends), None)
        answers.append(Answer(str(tokenizer.decode(row[:end], skip_special_tokens=True)), end is not None))
    return answers


__all__ = ["MAX_NEW_TOKENS", "Answer", "Citing", "answer_all", "score", "score_groups"]
