"""Contrastive LoRA training of a sentence encoder: each question against every chunk of its batch, and back.

Loss: InfoNCE (van den Oord et al., 2018, "Representation Learning with Contrastive Predictive Coding") over cosines,
in both directions, with the other pairs of the batch as negatives (Henderson et al., 2017, "Efficient Natural Language
Response Suggestion for Smart Reply"). A batch is made of runs of one package each, so that negatives are near.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from slipstream.build.references import ResolvedModel
from slipstream.build.sentence_encoder import EmbedderUnsupported, load_encoder, load_tokenizer, quiet
from slipstream.build.training.embedder.checkpoints import Checkpoints, Position
from slipstream.build.training.embedder.pairs import Pair
from slipstream.build.training.embedder.questions import code_of, question_of
from slipstream.engines.protocols import Progress

if TYPE_CHECKING:
    import torch

_SCALE = 20.0
"""Cosines become logits times this: a temperature of 0.05."""
_QUESTION_TOKENS, _CODE_TOKENS = 40, 128
_RUN = 12  # pairs of one package
_PARTS = 4  # of a batch's chunks, by length: less is padding
_WARMUP = 50  # steps


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. The defaults were chosen on all-MiniLM-L6-v2.

    Attributes:
        batch: pairs of a step; more means more negatives.
        checkpoint_every: steps.
    """

    steps: int = 900
    rank: int = 16
    batch: int = 96
    learning_rate: float = 1e-3
    seed: int = 7
    target_modules: tuple[str, ...] = ("query", "key", "value", "dense")
    checkpoint_every: int = 50

    @property
    def alpha(self) -> int:
        return 2 * self.rank


@dataclass(frozen=True, slots=True)
class Tuned:
    """An encoder with LoRA matrices beside its weights, and its tokenizer.

    Attributes:
        encoder: `load_encoder`'s module; its ``encoder`` is peft's model.
    """

    encoder: Any
    tokenizer: Any

    @property
    def trained(self) -> "dict[str, torch.nn.Parameter]":
        return {name: value for name, value in self.encoder.named_parameters() if value.requires_grad}

    def embed(self, texts: Sequence[str], most_tokens: int | None = None) -> "torch.Tensor":
        """Unit vectors [n, dimension] in fp32; texts are cut where serving cuts them, or earlier."""
        import torch

        limit = min(most_tokens or self.tokenizer.model_max_length, self.tokenizer.model_max_length)
        ids = self.tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            vectors: torch.Tensor = self.encoder(ids["input_ids"], ids["attention_mask"])
        return vectors.float()


def attach(model: ResolvedModel, options: TrainOptions) -> Tuned:
    """The encoder in bfloat16 with fresh LoRA matrices in fp32, drawn from ``options.seed``.

    The pooler is left alone: sentence vectors do not come through it.

    Raises:
        EmbedderUnsupported: no encoder, or one without such modules.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with quiet():
        encoder, tokenizer = load_encoder(model), load_tokenizer(model)
    encoder.encoder.to(torch.bfloat16)
    torch.manual_seed(options.seed)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=list(options.target_modules),
        exclude_modules=["pooler.dense"],
    )
    try:
        encoder.encoder = get_peft_model(encoder.encoder, config)
    except ValueError as error:
        raise EmbedderUnsupported(
            f"{model.reference} cannot be adapted: {error}", "choose an encoder of BERT's architecture"
        ) from error
    encoder.eval()  # without dropout: so few parameters do not overfit, and a step depends on nothing but its number
    return Tuned(encoder, tokenizer)


def train(
    tuned: Tuned, pairs: Sequence[Pair], options: TrainOptions, checkpoints: Checkpoints, progress: Progress
) -> Position:
    """Train the LoRA matrices in place, from the last checkpoint on if there is one; returns where it ended.

    A step is decided by the seed, its number and the number of threads: a run that was killed ends in the same weights.
    """
    import torch

    parameters = tuned.trained
    optimizer = torch.optim.AdamW(parameters.values(), lr=options.learning_rate, weight_decay=0.0)
    at = checkpoints.load(parameters, optimizer)
    batches = _Batches(pairs, options)
    while at.step < options.steps:
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(at.step, options.steps)
        loss, right = _step(tuned, batches.at(at.step), Random(f"{options.seed}:{at.step}"))  # noqa: S311
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        at = at.after(float(loss.detach()), right)
        told = f"step {at.step}/{options.steps}, loss {at.recent_loss:.3f}, right {at.recent_right:.0%}"
        progress(at.step / options.steps, told)
        if at.step % options.checkpoint_every == 0 or at.step == options.steps:
            checkpoints.save(at, parameters, optimizer)
    _round(parameters)
    return at


def _step(tuned: Tuned, batch: Sequence[Pair], random: Random) -> "tuple[torch.Tensor, float]":
    """The loss (nats) and the share of questions whose own chunk is the nearest."""
    import torch

    questions = tuned.embed([question_of(pair, random) for pair in batch], _QUESTION_TOKENS)
    texts = [code_of(pair, random) for pair in batch]
    order = sorted(range(len(batch)), key=lambda row: len(texts[row]))
    size = math.ceil(len(batch) / _PARTS)
    parts = [
        tuned.embed([texts[row] for row in order[start : start + size]], _CODE_TOKENS)
        for start in range(0, len(batch), size)
    ]
    chunks = torch.cat(parts)[torch.tensor(order).argsort()]
    scores = questions @ chunks.T * _SCALE
    own = torch.arange(len(batch))
    entropy = torch.nn.functional.cross_entropy
    right = float((scores.argmax(dim=1) == own).float().mean())
    return (entropy(scores, own) + entropy(scores.T, own)) / 2, right


class _Batches:
    """The batch of any step: an epoch's order is drawn from the seed and the epoch's number."""

    def __init__(self, pairs: Sequence[Pair], options: TrainOptions) -> None:
        self._pairs, self._seed = pairs, options.seed
        self._size = min(options.batch, len(pairs))
        self._epoch, self._order = -1, list[Pair]()

    def at(self, step: int) -> list[Pair]:
        each = len(self._pairs) // self._size
        epoch, number = divmod(step, each)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(_order(self._pairs, Random(f"{self._seed}:epoch:{epoch}")))  # noqa: S311
        return self._order[number * self._size : (number + 1) * self._size]


def _order(pairs: Sequence[Pair], random: Random) -> Iterator[Pair]:
    """All pairs: runs of one package in random order; of half of the packages, runs of neighbouring files."""
    packages: dict[str, list[Pair]] = {}
    for pair in pairs:
        packages.setdefault(pair.package, []).append(pair)
    runs = []
    for members in packages.values():
        shuffled = random.sample(members, len(members))
        if random.random() < 0.5:
            shuffled.sort(key=lambda pair: pair.path)
        runs += [shuffled[start : start + _RUN] for start in range(0, len(shuffled), _RUN)]
    random.shuffle(runs)
    for run in runs:
        yield from run


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up times a cosine that ends at a fiftieth."""
    return min(1.0, (step + 1) / min(_WARMUP, steps)) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _round(parameters: "dict[str, torch.nn.Parameter]") -> None:
    """To what fp16 can hold, in which they are saved: what is measured is what ships."""
    import torch

    with torch.no_grad():
        for value in parameters.values():
            value.copy_(value.half().float())


__all__ = ["TrainOptions", "Tuned", "attach", "train"]
