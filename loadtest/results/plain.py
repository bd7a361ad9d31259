"""Results as what JSON knows."""

from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from pydantic import BaseModel


def as_plain(value: Any) -> Any:
    """``value`` in JSON's types: dataclasses and models as dicts, tuples as lists, what is not finite as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, BaseModel):
        return as_plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {str(key): as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value


__all__ = ["as_plain"]
