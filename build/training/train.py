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
from slipstream.build.training.dataset import Sample
from slipstream.engines.protocols import Progress
from slipstream.ensemble.prompt import PROMPT

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. The defaults were chosen on SmolLM2-135M with 360 samples.

    Attributes:
        batch_size: sequences of one optimizer step; ``micro_batch`` of them are in memory at once.
        bf16: matrix products in bfloat16 (autocast), weights and optimizer in fp32.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    epochs: int = 2
    learning_rate: float = 8e-4
    warmup_share: float = 0.06
    batch_size: int = 8
    micro_batch: int = 4
    seed: int = 7
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompt and answer as ids; the answer ends with the end-of-turn token and begins at ``answer_start``."""

    ids: list[int]
    answer_start: int


def encode_sample(sample: Sample, tokenizer: "PreTrainedTokenizerFast") -> Encoded:
    """The sample exactly as serving will put it: same template, same ids up to where the assistant begins."""
    text = str(tokenizer.apply_chat_template(sample.messages, tokenize=False, add_generation_prompt=True))
    prompt = tokenizer.encode(text, add_special_tokens=False)
    answer = tokenizer.encode(sample.answer, add_special_tokens=False)
    return Encoded([*prompt, *answer, int(str(tokenizer.eos_token_id))], len(prompt))


def attach_lora(model: "PreTrainedModel", options: TrainOptions) -> "torch.nn.Module":
    """``model`` with fresh LoRA matrices, the only parameters that train; A is drawn from ``options.seed``."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(options.seed)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.target_modules),
        task_type="CAUSAL_LM",
    )
    tuned: torch.nn.Module = get_peft_model(model, config)
    return tuned


def train(
    tuned: "torch.nn.Module", samples: Sequence[Encoded], options: TrainOptions, progress: Progress
) -> list[float]:
    """Train the LoRA matrices of ``tuned`` in place.

    Returns:
        The mean loss per answer token (nats) of every optimizer step.
    """
    import torch

    torch.manual_seed(options.seed)
    parameters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    steps = options.epochs * math.ceil(len(samples) / options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, steps, options.warmup_share))
    losses: list[float] = []
    tuned.train()
    for batch in _batches(samples, options):
        losses.append(_step(tuned, batch, options))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        progress(len(losses) / steps, f"loss {sum(losses[-10:]) / len(losses[-10:]):.3f}")
    tuned.eval()
    return losses


def _step(tuned: "torch.nn.Module", batch: Sequence[Encoded], options: TrainOptions) -> float:
    """Accumulate the gradient of the mean loss over all answer tokens of ``batch``; returns that loss."""
    import torch

    answer_tokens = sum(len(encoded.ids) - encoded.answer_start for encoded in batch)
    total = 0.0
    for start in range(0, len(batch), options.micro_batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = answer_loss(tuned, batch[start : start + options.micro_batch])
        (loss / answer_tokens).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total / answer_tokens


def answer_loss(tuned: "torch.nn.Module", batch: Sequence[Encoded]) -> "torch.Tensor":
    """Summed cross entropy (nats) of the answers' tokens.

    The output layer, a fifth of this model, runs on the answers' positions only: the prompts need no logits.
    """
    import torch

    longest = max(len(encoded.ids) for encoded in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, _IGNORED)
    for row, encoded in enumerate(batch):
        length = len(encoded.ids)
        ids[row, :length] = torch.tensor(encoded.ids)
        mask[row, :length] = 1
        labels[row, encoded.answer_start : length] = ids[row, encoded.answer_start : length]
    inner: Any = tuned
    decoder = inner.get_base_model()
    hidden = decoder.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    targets = labels[:, 1:]
    wanted = targets != _IGNORED
    logits = decoder.get_output_embeddings()(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")


def _batches(samples: Sequence[Encoded], options: TrainOptions) -> Iterator[list[Encoded]]:
    """Every epoch in a new order; within a window of eight batches neighbours in length share a batch."""
    random = Random(options.seed)  # noqa: S311
    size = options.batch_size
    for _ in range(options.epochs):
        order = list(samples)
        random.shuffle(order)
        batches: list[list[Encoded]] = []
        for start in range(0, len(order), size * 8):
            window = sorted(order[start : start + size * 8], key=lambda encoded: len(encoded.ids))
            batches += [window[at : at + size] for at in range(0, len(window), size)]
        random.shuffle(batches)
        yield from batches


def _cosine(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save_adapter(tuned: "torch.nn.Module", base: ResolvedModel, out: Path) -> None:
    """Write the adapter in bfloat16 with its provenance; ``out`` appears whole or not at all.

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
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(Path(aside, WEIGHTS)).items()}
        save_file(tensors, finished / WEIGHTS, metadata={"format": "pt"})
        (finished / WEIGHTS).chmod(0o644)
        provenance = Provenance(
            base_model=base.reference,
            base_model_sha256=base.sha256,
            prompt_id=PROMPT.id,
            prompt_sha256=PROMPT.digest,
        )
        (finished / PROVENANCE).write_text(provenance.model_dump_json(indent=2) + "\n", encoding="utf-8")
        finished.rename(out)


def options_as_params(options: TrainOptions) -> dict[str, Any]:
    """Flat, for MLflow."""
    return {**asdict(options), "target_modules": ",".join(options.target_modules)}


__all__ = [
    "Encoded", "TrainOptions", "answer_loss", "attach_lora", "encode_sample", "options_as_params", "save_adapter",
    "train",
]  # fmt: skip
