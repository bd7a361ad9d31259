"""What a recipe for NVIDIA GPUs comes to before anything is fetched: a memory plan, and a script for the container."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from slipstream import InputError
from slipstream.build.recipe import Recipe
from slipstream.build.references import model_slug
from slipstream.engines.tensorrt_llm.compiling.script import emit_script
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.engines.tensorrt_llm.planning.fit import require_fit
from slipstream.engines.tensorrt_llm.planning.memory import MemoryPlan
from slipstream.engines.tensorrt_llm.planning.quantization import check_draft, check_quantization
from slipstream.engines.tensorrt_llm.planning.shapes import (
    ModelShape,
    ShapeUnknown,
    known_models,
    known_shape,
    read_shape,
)
from slipstream.ensemble.prompt import PROMPT


class NotForGpus(InputError):
    """The recipe's target compiles for CPUs."""


@dataclass(frozen=True)
class GpuPlan:
    """A recipe that fits its card: ``shape`` of its base model, ``draft`` of the model that proposes tokens."""

    recipe: Recipe
    options: TensorRtLlmOptions
    shape: ModelShape
    draft: ModelShape | None
    memory: MemoryPlan

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """
        Raises:
            NotForGpus: another target.
            ShapeUnknown: a base model that is neither a folder here nor among those whose shapes are known.
            UnsupportedQuantization, DoesNotFit: what 1.2.1 has no kernel for, or the card no room.
        """
        options = recipe.tensorrt_llm
        if options is None:
            raise NotForGpus(f"target {recipe.target} has no GPU part", "set target: tensorrt_llm in the recipe")
        reference = options.speculative.draft_model
        shape, draft = _shape(recipe.base_model), _shape(reference) if reference else None
        check_quantization(recipe.quantization.spec, options, shape)
        if draft is not None:
            check_draft(options, draft)
        memory = require_fit(options, recipe.quantization.spec, shape, draft)
        return cls(recipe, options, shape, draft, memory)

    @property
    def release_name(self) -> str:
        return self.recipe.release_name(model_slug(self.recipe.base_model), PROMPT.id)

    def script(self) -> str:
        """Bash, for the container; see `emit_script`."""
        spec = self.recipe.quantization.spec
        return emit_script(self.options, spec, self.shape, self.draft, title=self.release_name)


def _shape(reference: str) -> ModelShape:
    known = known_shape(reference)
    if known is not None:
        return known
    if reference.startswith(("hf:", "pypi:")):
        raise ShapeUnknown(
            f"the shape of {reference} is not in the table, and nothing is fetched to plan",
            f"fetch it and name its folder; the table has: {', '.join(known_models())}",
        )
    return read_shape(Path(reference).expanduser())


__all__ = ["GpuPlan", "NotForGpus"]
