"""What a report is told beside the samples: where, when and on what a run ran. Plain records that the caller fills."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slipstream.loadtest.report.drawing.page import Claim, Section, Tone
from slipstream.loadtest.results.verdict import Result


@dataclass(frozen=True)
class Run:
    """The circumstances of a run; what is not known stays empty and the report says so.

    Attributes:
        url: of the server.
        command: what was typed, ready to be typed again.
        started_at: ISO 8601 with its offset.
        version: of the program that measured.
        plan_digest: of the schedule that was drawn from the seed.
        bundle_digest, index_digest: what the server answered from.
        server: what it says of itself, by name: release, engine, model, versions.
        host: fingerprint of the machine that measured: CPU, cores, memory, GPUs, operating system.
        notes: what a reader has to know before the numbers; shown under the verdict.
    """

    url: str
    command: str
    started_at: str = ""
    version: str = ""
    plan_digest: str = ""
    bundle_digest: str = ""
    index_digest: str = ""
    server: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RateRun:
    """One of several runs at different rates; those of one ``series`` (a bundle, a server) make one curve."""

    offered_per_s: float
    result: Result
    series: str = ""


@dataclass(frozen=True)
class Lead:
    """What stands on top of a report: a verdict in a ``word`` and a ``sentence``, and what it rests on.

    ``sections`` come before those of the run that the rest of the report is about.
    """

    title: str
    word: str
    tone: Tone
    sentence: str
    notes: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    sections: Sequence[Section] = ()


__all__ = ["Lead", "RateRun", "Run"]
