"""Where a training run stands, on disk: a run that is killed goes on from there and ends in the same weights."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError

if TYPE_CHECKING:
    import torch

_STATE = "state.safetensors"
_RECENT = 25  # steps that a shown loss is the mean of


class OtherTraining(InputError):
    """The folder holds the checkpoints of a run with other options, sources or another model."""


@dataclass(frozen=True, slots=True)
class Position:
    """After ``step`` steps: loss (nats) and share of right answers of each."""

    step: int = 0
    losses: tuple[float, ...] = ()
    right: tuple[float, ...] = ()

    def after(self, loss: float, right: float) -> "Position":
        return replace(self, step=self.step + 1, losses=(*self.losses, loss), right=(*self.right, right))

    @property
    def recent_loss(self) -> float:
        return _mean(self.losses[-_RECENT:])

    @property
    def recent_right(self) -> float:
        return _mean(self.right[-_RECENT:])


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / max(1, len(values))


class Checkpoints:
    """One file in ``folder``, replaced as a whole: LoRA matrices, AdamW's moments, and how it went so far.

    ``run`` identifies what is trained: options, data set, base model.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self._run = folder, run

    def load(self, parameters: "Mapping[str, torch.nn.Parameter]", optimizer: "torch.optim.Optimizer") -> Position:
        """Put parameters and optimizer where the last checkpoint left them; the beginning if there is none.

        Raises:
            OtherTraining: it is of another run, or damaged.
        """
        import torch
        from safetensors import SafetensorError, safe_open

        file = self.folder / _STATE
        if not file.exists():
            return Position()
        try:
            with safe_open(file, "pt") as stored:
                told = json.loads(stored.metadata()["position"])
                if stored.metadata()["run"] != self._run:
                    raise self._other("of a run with other options, sources or another model")
                with torch.no_grad():
                    for name, value in parameters.items():
                        value.copy_(stored.get_tensor(name))
                        optimizer.state[value] = {
                            "step": torch.tensor(float(told["step"])),
                            "exp_avg": stored.get_tensor(f"{name}.mean"),
                            "exp_avg_sq": stored.get_tensor(f"{name}.square"),
                        }
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise self._other(f"damaged ({error})") from error
        return Position(told["step"], tuple(told["losses"]), tuple(told["right"]))

    def save(
        self, at: Position, parameters: "Mapping[str, torch.nn.Parameter]", optimizer: "torch.optim.Optimizer"
    ) -> None:
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        for name, value in parameters.items():
            state: dict[str, Any] = optimizer.state[value]
            tensors |= {
                name: value.detach(),
                f"{name}.mean": state["exp_avg"],
                f"{name}.square": state["exp_avg_sq"],
            }
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{_STATE}"
        save_file(tensors, aside, metadata={"run": self._run, "position": json.dumps(asdict(at))})
        aside.replace(self.folder / _STATE)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _other(self, why: str) -> OtherTraining:
        return OtherTraining(f"the checkpoint in {self.folder} is {why}", "delete it, or choose another --out")


__all__ = ["Checkpoints", "OtherTraining", "Position"]
