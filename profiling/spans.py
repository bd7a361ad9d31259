"""A stage of a request: when it began and ended, and the same as an NVTX range where a tool is listening.

Every process of a server marks what it runs by these names, on one clock (CLOCK_MONOTONIC, which all processes of a
machine share), so that their times can be laid on one line. Any room may import this module; it imports none.

A tool such as Nsight Systems announces itself in the environment of what it starts. Where none did, a range costs the
check of one variable; NVTX is not even imported then, and need not be installed.
"""

import os
from collections.abc import Callable
from hashlib import blake2b
from time import monotonic_ns
from typing import Any, Literal, NamedTuple, Self

DOMAIN = "slipstream"
SWITCH = "SLIPSTREAM_SPANS"
"""Set to 0 in the environment, nothing is timed and nothing marked: what the price of all this is measured against."""

Stage = Literal["queue", "embed", "retrieve", "prompt", "prefill", "decode", "detokenize", "stream"]
STAGES: tuple[Stage, ...] = ("queue", "embed", "retrieve", "prompt", "prefill", "decode", "detokenize", "stream")
RangeName = Stage | Literal["step"]
"""``step`` is one step of the engine for all its sequences; it belongs to no single request."""

ENABLED = os.environ.get(SWITCH, "") != "0"


def _listening() -> Any:
    """NVTX's domain where a tool injects itself (the variable is NVTX's own), else None.

    ``nvtx.get_domain`` asks the tool whether it listens. Tools that are older than that question, Debian's Nsight
    Systems among them, seem to say no, and all ranges would be lost without a word; so it is made without asking.
    """
    if not ENABLED or not os.environ.get("NVTX_INJECTION64_PATH"):
        return None
    try:
        from nvtx._lib.lib import Domain, DomainHandle
    except ImportError:
        return None
    domain = object.__new__(Domain)
    domain.handle = DomainHandle(DOMAIN)
    domain.__init__(DOMAIN)
    return domain


_domain = _listening()

now_ns: Callable[[], int] = monotonic_ns if ENABLED else int
"""Nanoseconds of CLOCK_MONOTONIC; 0 when spans are switched off."""


def is_traced() -> bool:
    """Whether a tool announced itself, so that ranges are worth what they cost."""
    return _domain is not None


def payload(request_id: str) -> int:
    """63 bits that stand for a request in its ranges: old tools keep a signed integer there and no text."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "little") >> 1


class Span(NamedTuple):
    """Nanoseconds of CLOCK_MONOTONIC."""

    stage: Stage
    start_ns: int
    end_ns: int


class span:  # noqa: N801  reads as the statement that it is
    """``with span("embed", request_id) as found``: times a block and pushes a range around it on this thread.

    Not around an ``await``, where other tasks would push and pop in between; `begin` is for that.

    Args:
        name: the stage, or ``step``.
        of: the request; of a ``step``, how many sequences it advances.
    """

    __slots__ = ("_name", "_of", "end_ns", "start_ns")

    def __init__(self, name: RangeName, of: str | int) -> None:
        self._name = name
        self._of = of
        self.start_ns = self.end_ns = 0

    def __enter__(self) -> Self:
        if _domain is not None:
            _domain.push_range(_attributes(self._name, self._of))
        self.start_ns = now_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_ns = now_ns()
        if _domain is not None:
            _domain.pop_range()


class Open:
    """A range that has begun; any thread may end it, once."""

    __slots__ = ("_handle", "_stage", "_start_ns")

    def __init__(self, stage: Stage, request_id: str) -> None:
        self._stage = stage
        self._handle = None if _domain is None else _domain.start_range(_attributes(stage, request_id))
        self._start_ns = now_ns()

    def end(self) -> Span:
        end_ns = now_ns()
        if self._handle is not None:
            _domain.end_range(self._handle)
        return Span(self._stage, self._start_ns, end_ns)


def begin(stage: Stage, request_id: str) -> Open:
    """Open a range that may overlap others and end on another thread."""
    return Open(stage, request_id)


def _attributes(name: RangeName, of: str | int) -> Any:
    return _domain.get_event_attributes(message=name, payload=payload(of) if isinstance(of, str) else of)


__all__ = [
    "DOMAIN",
    "ENABLED",
    "STAGES",
    "SWITCH",
    "Open",
    "RangeName",
    "Span",
    "Stage",
    "begin",
    "is_traced",
    "now_ns",
    "payload",
    "span",
]
