"""Distillation: a model with few layers learns to say what the whole one says.

Method: Kim & Rush 2016, "Sequence-Level Knowledge Distillation" (on the teacher's own answers), and Zhou et al. 2023,
"DistillSpec" (a draft is accepted as often as its distribution is near the target's): the loss is the KL divergence
from the teacher's distribution of the next token to the draft's.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.build.draft.cut import check_same_tokens, cut_layers
from slipstream.build.training.train import cosine
from slipstream.engines.protocols import Progress

if TYPE_CHECKING:
    import torch


class NothingToLearn(InputError):
    """There is no lesson."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt and what the engine answered to it; both have tokens."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class DistilOptions:
    """How to distil; every step is one lesson.

    ``save_every`` steps the state is written, which costs three times the trained weights' bytes on disk.
    """

    layers: int
    steps: int
    seed: int = 7
    learning_rate: float = 5e-4
    warmup_share: float = 0.05
    save_every: int = 50
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class DistilReport:
    """``kl_first`` and ``kl_last``: mean KL divergence (nats) on answers over the first and the last tenth of steps."""

    kl_first: float
    kl_last: float
    steps: int
    resumed_at: int


def distil(
    checkpoint: Path,
    lessons: Sequence[Lesson],
    out: Path,
    options: DistilOptions,
    progress: Progress,
    state: Path | None = None,
) -> DistilReport:
    """Write a draft of ``checkpoint`` (a Hugging Face folder) to ``out``, tokenizer and all.

    The embedding, the output layer and the last norm stay the model's own; the kept layers are trained.

    Args:
        state: a file that a killed run leaves behind and the next one with equal arguments goes on from; it is removed
            at the end. The draft is the same, killed or not, on one machine with the same number of threads.

    Raises:
        NothingToLearn, TooManyLayers, VocabularyMismatch: before any work.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not lessons:
        raise NothingToLearn("no prompt was answered, so there is nothing to distil", "set draft: prompt_lookup")
    torch.manual_seed(options.seed)
    teacher: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True)
    teacher = teacher.eval().requires_grad_(False)
    draft: Any = cut_layers(teacher, options.layers)
    draft.eval()  # no dropout: a resumed run would draw it anew, and the draft is to say what the model says, no more
    tokenizers: Any = AutoTokenizer
    tokenizer = tokenizers.from_pretrained(checkpoint, local_files_only=True)
    draft.save_pretrained(out)
    tokenizer.save_pretrained(out)
    check_same_tokens(checkpoint, out)
    course = _Course(teacher, draft, lessons, options, progress)
    resumed_at = course.resume(state) if state is not None else 0
    course.run(state)
    draft.save_pretrained(out)
    if state is not None:
        state.unlink(missing_ok=True)
    tenth = max(1, options.steps // 10)
    first, last = course.losses[:tenth], course.losses[-tenth:]
    return DistilReport(sum(first) / len(first), sum(last) / len(last), options.steps, resumed_at)


class _Course:
    """The steps of a distillation, and where it stands."""

    def __init__(
        self, teacher: Any, draft: Any, lessons: Sequence[Lesson], options: DistilOptions, progress: Progress
    ) -> None:
        import torch

        self._teacher, self._draft, self._lessons = teacher, draft, lessons
        self._options, self._progress = options, progress
        self.losses: list[float] = []
        draft.requires_grad_(False)
        self._layers = draft.get_decoder().layers.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self._layers.parameters(), lr=options.learning_rate, weight_decay=0.0)
        self._identity = _identity(teacher, lessons, options)

    def run(self, state: Path | None) -> None:
        import torch

        options = self._options
        order = _order(len(self._lessons), options)
        while len(self.losses) < options.steps:
            step = len(self.losses)
            for group in self._optimizer.param_groups:
                group["lr"] = options.learning_rate * cosine(step, options.steps, options.warmup_share)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
                on_prompt, on_answer = self._divergences(self._lessons[order[step]])
            (on_prompt + on_answer).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._layers.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            self.losses.append(float(on_answer.detach()))
            recent = self.losses[-20:]
            self._progress(len(self.losses) / options.steps, f"KL on answers {sum(recent) / len(recent):.3f}")
            if state is not None and len(self.losses) % options.save_every == 0:
                self._save(state)

    def _divergences(self, lesson: Lesson) -> "tuple[torch.Tensor, torch.Tensor]":
        """Mean KL divergence over the prompt's positions and over the answer's.

        Either counts half of the loss: answers are what a draft is for, and a prompt has twenty times their positions,
        on which the layers that were cut apart find together.
        """
        import torch

        ids = torch.tensor([[*lesson.prompt_ids, *lesson.answer_ids]])
        with torch.no_grad():
            wanted = torch.log_softmax(self._teacher(input_ids=ids).logits[0, :-1].float(), dim=-1)
        said = torch.log_softmax(self._draft(input_ids=ids).logits[0, :-1].float(), dim=-1)
        each = torch.nn.functional.kl_div(said, wanted, reduction="none", log_target=True).sum(dim=-1)
        begin = len(lesson.prompt_ids) - 1  # the prompt's last token has the answer's first behind it
        return each[:begin].mean(), each[begin:].mean()

    def _save(self, state: Path) -> None:
        import torch

        aside = state.with_name(state.name + ".aside")
        torch.save(
            {
                "identity": self._identity,
                "losses": self.losses,
                "layers": self._layers.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
            aside,
        )
        aside.replace(state)

    def resume(self, state: Path) -> int:
        """Go on from ``state`` if it is of a run like this one; returns the steps that are done."""
        import torch

        if not state.is_file():
            return 0
        try:
            kept = torch.load(state, weights_only=True)
            identity = kept["identity"]
        except Exception:  # half a file, of which the library says so in many ways; a new run is right whatever it held
            return 0
        if identity != self._identity:
            return 0
        self._layers.load_state_dict(kept["layers"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self.losses = kept["losses"]
        return len(self.losses)


def _order(lessons: int, options: DistilOptions) -> list[int]:
    """The lesson of every step: all of them in a new order, again and again."""
    random = Random(f"{options.seed}/distil")  # noqa: S311
    order: list[int] = []
    while len(order) < options.steps:
        order += random.sample(range(lessons), lessons)
    return order


def _identity(teacher: Any, lessons: Sequence[Lesson], options: DistilOptions) -> str:
    """What decides the draft, as a digest: the teacher's weights by their sums, lessons and options."""
    sums = [float(weight.double().sum()) for weight in teacher.parameters()]
    told = [sums, [[list(one.prompt_ids), list(one.answer_ids)] for one in lessons], asdict(options)]
    return sha256(json.dumps(told).encode()).hexdigest()


__all__ = ["DistilOptions", "DistilReport", "Lesson", "NothingToLearn", "distil"]
