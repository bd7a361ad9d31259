"""The contract's facts, and pydantic models made of them: names, types, choices and ranges, and nothing of ours.

Fields are written as ``{"type": ..., "required", "optional", "choices", "minimum", "above", "maximum",
"minimum_length", "default"}``;
``type`` is ``text``, ``path``, ``integer``, ``number``, ``boolean``, ``switch``, ``choice``, ``list of text``,
``list of integer``, ``integer to integer`` or the name of another section.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from slipstream import InputError

Field = Mapping[str, Any]

_FOLDER = Path(__file__).parent
_TYPES: Mapping[str, Any] = {
    "text": str,
    "path": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "switch": bool,
}
_LIMITS = {"minimum": Ge, "above": Gt, "maximum": Le}


class ContractViolation(InputError):
    """What was about to be emitted is not what TensorRT-LLM 1.2.1 accepts."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, "change the recipe's tensorrt_llm section; if it is right, this is a defect to report"
        )


@cache
def facts(name: Literal["commands", "llm_args", "quantization"]) -> Mapping[str, Any]:
    """The JSON file ``name`` beside this module."""
    loaded: Mapping[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def section(title: str, fields: Mapping[str, Field], sections: Mapping[str, Mapping[str, Field]]) -> type[BaseModel]:
    """A model that takes ``fields`` and nothing else, and resolves types by name in ``sections``."""
    definitions: dict[str, Any] = {
        name: (_annotation(field, sections), ... if field.get("required") else None) for name, field in fields.items()
    }
    return create_model(title, __config__=ConfigDict(extra="forbid"), **definitions)


def require(model: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Refuse what ``model`` does not take.

    Raises:
        ContractViolation: every fault, by its dotted place.
    """
    try:
        model.model_validate_json(json.dumps(given), strict=True)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ContractViolation(f"{model.__name__} cannot be written as JSON: {error}") from error
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ContractViolation(f"{model.__name__}: {faults}") from error


def value_of(field: Field, text: str) -> str | int | float:
    """``text`` as a command line gives it, in the type that ``field`` demands.

    Raises:
        ValueError: it is not of that type, none of the choices, or out of range.
    """
    if field["type"] == "integer":
        value: str | int | float = int(text)
    elif field["type"] == "number":
        value = float(text)
    else:
        value = text
    if "choices" in field and value not in field["choices"]:
        raise ValueError(f"{text!r} is none of {', '.join(map(str, field['choices']))}")
    if not isinstance(value, str) and (value < field.get("minimum", value) or value > field.get("maximum", value)):
        raise ValueError(f"{text} is out of range")
    if not text:
        raise ValueError("it is empty")
    return value


def _annotation(field: Field, sections: Mapping[str, Mapping[str, Field]]) -> Any:
    limits = [_LIMITS[key](field[key]) for key in _LIMITS if key in field]
    annotation = _type(field, limits, sections)
    return annotation | None if field.get("optional") else annotation


def _type(field: Field, limits: list[Any], sections: Mapping[str, Mapping[str, Field]]) -> Any:
    kind = field["type"]
    if kind == "choice":
        return Literal[tuple(field["choices"])]
    if kind == "integer to integer":
        return dict[Annotated[int, Ge(1)], _limited(int, limits)]  # type: ignore[misc]
    if kind.startswith("list of "):
        items: Any = list[_limited(_TYPES[kind.removeprefix("list of ")], limits)]  # type: ignore[misc]
        return Annotated[items, MinLen(field.get("minimum_length", 0))]
    return _limited(_TYPES.get(kind) or section(kind, sections[kind], sections), limits)


def _limited(annotation: Any, limits: list[Any]) -> Any:
    return Annotated[(annotation, *limits)] if limits else annotation
