"""What a server says of its own times: a JSON object (Slipstream's) or ``Server-Timing``. What is neither says nothing.

Slipstream is asked for its times by the header of `ASKING`. It answers a stream with one event that has no content, and
an answer in one piece with a header. Other servers ignore the header; whatever they send of that name is not trusted to
mean the same, so nothing here is ever an error.
"""

import json
from typing import Any

from slipstream.loadtest.sending.text import well_formed

ASKING = "x-slipstream-timing"
_TEXTS = ("id", "request_id")
_NUMBERS = ("received_unix_s", "ttft_ms", "end_to_end_ms", "decode_steps", "cached_prompt_tokens")
_MOST = 1e12  # milliseconds, 32 years; what is reckoned in nanoseconds from more overflows
_MOST_UNIX_S = 1e11  # of the year 5138


def parse_timing(header: str) -> dict[str, float]:
    """Seconds by name from ``name;dur=ms, ...`` (W3C Server Timing); an entry without a duration is left out."""
    stages: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            try:
                if key.strip().lower() == "dur" and name and 0 <= (ms := float(value.strip(' "'))) < float("inf"):
                    stages[name] = ms / 1e3
            except ValueError:
                continue
    return stages


def header_timing(header: str) -> Any:
    """The JSON object in a header; None where it is none."""
    if not header.lstrip().startswith("{"):
        return None
    try:
        return json.loads(header)
    except (ValueError, RecursionError):
        return None


def stages_of(timing: Any) -> dict[str, float]:
    """Seconds by stage of a timing object, in its order; what is no duration is left out."""
    stages = timing.get("stages") if isinstance(timing, dict) else None
    return {name: milliseconds / 1e3 for name, milliseconds in _durations(stages).items()}


def tidy(timing: dict[str, Any] | None) -> dict[str, Any] | None:
    """A timing object as a sample keeps it: the fields that we know, where they are what they should be.

    Milliseconds since the request was received but for ``received_unix_s``; ``spans`` hold stage, start and length.
    """
    if timing is None:
        return None
    kept: dict[str, Any] = {name: well_formed(timing[name]) for name in _TEXTS if isinstance(timing.get(name), str)}
    kept |= {name: timing[name] for name in _NUMBERS if is_told(name, timing.get(name))}
    kept |= {name: _durations(timing.get(name)) for name in ("stages", "beside")}
    spans = timing.get("spans")
    found = filter(_is_span, spans if isinstance(spans, list) else ())
    kept["spans"] = [[well_formed(stage), start, length] for stage, start, length in found]
    return kept


def is_told(name: str, value: Any) -> bool:
    """Whether it can be the value of one of the timing object's numbers."""
    return is_duration(value) and (name != "received_unix_s" or value <= _MOST_UNIX_S)


def _durations(given: Any) -> dict[str, float]:
    if not isinstance(given, dict):
        return {}
    return {well_formed(name): float(value) for name, value in given.items() if name and is_duration(value)}


def _is_span(given: Any) -> bool:
    if not isinstance(given, list) or len(given) != 3:
        return False
    return isinstance(given[0], str) and is_duration(given[1]) and is_duration(given[2])


def is_duration(value: Any) -> bool:
    """Whether it is a number that can be one of milliseconds: from 0 to `_MOST`; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


__all__ = ["ASKING", "header_timing", "is_duration", "is_told", "parse_timing", "stages_of", "tidy"]
