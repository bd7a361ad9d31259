"""What a machine can do at most: how fast it reads, how fast it computes, and who says so.

How fast a CPU reads depends on how much it reads over and over, because its caches keep a part of that; so the roof has
one bandwidth per working set (Ilic, Pratas and Sousa, "Cache-aware Roofline model", IEEE CAL 13(1), 2014). A bound is
made of the best that was measured, as STREAM reports it (https://www.cs.virginia.edu/stream/ref.html); the median and
the least say how steady the machine was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from slipstream.profiling.limit.work import Arithmetic


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes or operations per second, over the rounds of a measurement; all alike where nothing was measured."""

    best: float
    median: float
    least: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Self:
        ordered = sorted(rounds)
        return cls(best=ordered[-1], median=ordered[len(ordered) // 2], least=ordered[0])


@dataclass(frozen=True, slots=True)
class Reading:
    """The bandwidth of reading ``working_set_bytes`` over and over."""

    working_set_bytes: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Roof:
    """One machine's.

    Attributes:
        name: of the CPU or the card, with how many cores or cards of it.
        readings: by growing working set; one for a card, whose caches hold no model.
        compute: operations per second by arithmetic.
        source: ``measured on this host``, or whose word it is.
    """

    name: str
    readings: tuple[Reading, ...]
    compute: Mapping[Arithmetic, Rate] = field(default_factory=dict)
    source: str = "measured on this host"

    def bandwidth(self, read_bytes: float) -> Rate | None:
        """Of a working set of ``read_bytes``; None where no bandwidth is known.

        Of the next smaller one that was measured or, should a larger one have come out faster, of that: a bandwidth
        that is too high makes a bound that still holds.
        """
        smaller = [at for at, one in enumerate(self.readings) if one.working_set_bytes <= read_bytes]
        near = self.readings[smaller[-1] if smaller else 0 :]
        return max((one.rate for one in near), key=lambda rate: rate.best, default=None)

    def to_plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_plain` made.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(
            name=str(plain["name"]),
            readings=tuple(Reading(int(one["working_set_bytes"]), _rate(one["rate"])) for one in plain["readings"]),
            compute={name: _rate(one) for name, one in plain["compute"].items()},
            source=str(plain["source"]),
        )


def _rate(plain: Mapping[str, Any]) -> Rate:
    rate = Rate(best=float(plain["best"]), median=float(plain["median"]), least=float(plain["least"]))
    if not 0 < rate.least <= rate.median <= rate.best < float("inf"):
        raise ValueError(f"{rate} is no measurement")
    return rate


__all__ = ["Rate", "Reading", "Roof"]
