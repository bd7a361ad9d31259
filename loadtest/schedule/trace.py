"""Arrivals as they were recorded: a trace of timestamps and, where they are to decide, lengths in tokens."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from slipstream import InputError
from slipstream.loadtest.schedule.records import read_records

MOST_TOKENS = 1_000_000
_KEYS = ("timestamp", "input_length", "output_length")
_REMEDY = 'write a line for each request: {"timestamp": SECONDS, "input_length": TOKENS, "output_length": TOKENS}'


class TraceInvalid(InputError):
    """No file, no requests in it, a line that is none, or a timestamp before the one above it; names the line."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of a trace.

    Attributes:
        offset_s: since the first one, at the speed of the replay, to the microsecond.
        input_tokens, output_tokens: what the trace says; None where it says nothing.
    """

    offset_s: float
    input_tokens: int | None
    output_tokens: int | None


def read_trace(path: Path, speed: float) -> tuple[Recorded, ...]:
    """The requests in ``path``, ``speed`` times as fast as they came.

    Raises:
        TraceInvalid: see there.
    """
    lines = [
        (
            place,
            _timestamp(place, record),
            _length(place, record, "input_length"),
            _length(place, record, "output_length"),
        )
        for place, record in read_records(path, _KEYS, TraceInvalid, _REMEDY)
    ]
    if not lines:
        raise TraceInvalid(f"{path} holds no requests", _REMEDY)
    for (_, before, *_), (place, after, *_) in pairwise(lines):
        if after < before:
            raise TraceInvalid(
                f"{place} is out of order: {after:.15g} s comes after {before:.15g} s",
                "sort the trace by its timestamps",
            )
    first = lines[0][1]
    return tuple(Recorded(round((moment - first) / speed, 6), asked, made) for _, moment, asked, made in lines)


def _timestamp(place: str, record: dict[str, Any]) -> float:
    given = record.get("timestamp")
    try:
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
            raise ValueError
        return float(given)
    except (ValueError, OverflowError):
        raise TraceInvalid(f"{place}: timestamp has to be a number of seconds", _REMEDY) from None


def _length(place: str, record: dict[str, Any], name: str) -> int | None:
    given = record.get(name)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_TOKENS:
        raise TraceInvalid(f"{place}: {name} has to be a whole number of tokens, 1 to {MOST_TOKENS:,}", _REMEDY)
    return given


__all__ = ["Recorded", "TraceInvalid", "read_trace"]
