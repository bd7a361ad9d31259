"""What a rule says when it fires."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["high", "low"]


@dataclass(frozen=True)
class Finding:
    """A likely cause of slow answers.

    Attributes:
        rule: which rule found it.
        cause: one sentence.
        evidence: what was measured, each with its numbers.
        remedy: what to change, by the name of the setting.
        severity: ``high`` where it takes most of the slow tail, or wrecks what the machine could do.
    """

    rule: str
    cause: str
    evidence: tuple[str, ...]
    remedy: str
    severity: Severity = "high"


__all__ = ["Finding", "Severity"]
