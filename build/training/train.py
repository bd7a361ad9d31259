"""LoRA training: the answer's tokens alone carry the loss, on one CPU, repeatably.

Method: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", with peft's implementation.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from slipstream.build.adapter import CONFIG, PROVENANCE, WEIGHTS, Provenance
from slipstream.build.references import ResolvedModel
from slipstream.build.training.card import CARD
from slipstream.build.training.encoding import EncodedPage
from slipstream.engines.protocols import Progress
from slipstream.ensemble.prompt import PROMPT, Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. The defaults were chosen on SmolLM2-135M.

    Attributes:
        batch_size: pages of one optimizer step; each has several questions.
        bf16: matrix products in bfloat16 (autocast); LoRA matrices and optimizer in fp32.
    """

    rank: int = 8
    alpha: int = 16
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    epochs: int = 1
    learning_rate: float = 1e-3
    warmup_share: float = 0.05
    batch_size: int = 2
    seed: int = 7
    bf16: bool = True


def attach_lora(model: "PreTrainedModel", options: TrainOptions) -> "torch.nn.Module":
    """``model`` with fresh LoRA matrices, the only parameters that train; A is drawn from ``options.seed``."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(options.seed)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=list(options.target_modules),
        task_type="CAUSAL_LM",
    )
    tuned: torch.nn.Module = get_peft_model(model, config)
    return tuned


def train(
    tuned: "torch.nn.Module", pages: Sequence[EncodedPage], options: TrainOptions, progress: Progress
) -> list[float]:
    """Train the LoRA matrices of ``tuned`` in place.

    Returns:
        The mean loss per answer token (nats) of every optimizer step.
    """
    import torch

    torch.manual_seed(options.seed)
    parameters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    steps = options.epochs * math.ceil(len(pages) / options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, options.warmup_share))
    losses: list[float] = []
    tuned.train()
    for batch in _batches(pages, options):
        losses.append(_step(tuned, batch, options))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        progress(len(losses) / steps, f"loss {sum(losses[-10:]) / len(losses[-10:]):.3f}")
    tuned.eval()
    return losses


def _step(tuned: "torch.nn.Module", batch: Sequence[EncodedPage], options: TrainOptions) -> float:
    """Accumulate the gradient of the mean loss over all answer tokens of ``batch``; returns that loss."""
    import torch

    answer_tokens = sum(page.answer_tokens for page in batch)
    total = 0.0
    for page in batch:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = answer_loss(tuned, page)
        (loss / answer_tokens).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total / answer_tokens


def answer_loss(tuned: "torch.nn.Module", page: EncodedPage) -> "torch.Tensor":
    """Summed cross entropy (nats) of the answers' tokens.

    The prefix runs once, and its keys and values are repeated for every branch, gradients included. The output layer,
    a fifth of this model, runs on the answers' positions only: prompts need no logits.
    """
    import torch
    from transformers import DynamicCache

    inner: Any = tuned
    decoder = inner.get_base_model()
    ids, mask, labels = _pad(page)
    cache: Any = DynamicCache()
    if page.prefix:
        decoder.get_decoder()(input_ids=torch.tensor([page.prefix]), past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(page.branches))
    hidden = decoder.get_decoder()(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True
    ).last_hidden_state
    targets = labels[:, 1:]
    wanted = targets != _IGNORED
    logits = decoder.get_output_embeddings()(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")


def _pad(page: EncodedPage) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Ids and labels [branches, longest]; mask [branches, prefix + longest], 1 where there is a token."""
    import torch

    shape = len(page.branches), max(len(branch.ids) for branch in page.branches)
    ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, _IGNORED)
    for row, branch in enumerate(page.branches):
        length = len(branch.ids)
        ids[row, :length] = torch.tensor(branch.ids)
        mask[row, :length] = 1
        labels[row, branch.answer_start : length] = ids[row, branch.answer_start : length]
    prefix = torch.ones(shape[0], len(page.prefix), dtype=torch.long)
    return ids, torch.cat([prefix, mask], dim=1), labels


def _batches(pages: Sequence[EncodedPage], options: TrainOptions) -> Iterator[list[EncodedPage]]:
    """Every epoch in a new order."""
    random = Random(options.seed)  # noqa: S311
    for _ in range(options.epochs):
        order = list(pages)
        random.shuffle(order)
        for start in range(0, len(order), options.batch_size):
            yield order[start : start + options.batch_size]


def cosine(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save_adapter(
    tuned: "torch.nn.Module", base: ResolvedModel, out: Path, *, prompt: Prompt | None = PROMPT, card: str | None = None
) -> None:
    """Write the adapter in fp16 with its provenance; ``out`` appears whole or not at all.

    Args:
        prompt: the one it was trained for; an embedder has none.
        card: the text of its ``CARD.md``, if it is known yet.

    Raises:
        FileExistsError: ``out`` is there already and not empty.
    """
    import torch
    from safetensors.torch import load_file, save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
        inner: Any = tuned
        inner.save_pretrained(aside, save_embedding_layers=False)
        config = json.loads(Path(aside, CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base.reference
        finished = Path(aside, "finished")
        finished.mkdir()
        (finished / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(Path(aside, WEIGHTS)).items()}
        save_file(tensors, finished / WEIGHTS, metadata={"format": "pt"})
        (finished / WEIGHTS).chmod(0o644)
        provenance = Provenance(
            base_model=base.reference,
            base_model_sha256=base.sha256,
            prompt_id=prompt.id if prompt else None,
            prompt_sha256=prompt.digest if prompt else None,
        )
        told = provenance.model_dump_json(indent=2, exclude_none=True)
        (finished / PROVENANCE).write_text(told + "\n", encoding="utf-8")
        if card is not None:
            (finished / CARD).write_text(card, encoding="utf-8")
        finished.rename(out)


def options_as_params(options: TrainOptions) -> dict[str, Any]:
    """Flat, for MLflow."""
    return {**asdict(options), "target_modules": ",".join(options.target_modules)}


__all__ = ["TrainOptions", "answer_loss", "attach_lora", "cosine", "options_as_params", "save_adapter", "train"]
