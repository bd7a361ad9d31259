"""Gates: what was measured of an engine against what the recipe allows, before there is a bundle.

A gate that is set and was not measured is not passed, and neither is one that measured no number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from pydantic import Field

from slipstream import GateError
from slipstream.build.options import Section


class GateFailed(GateError):
    """The engine was built and measured, and does less than the recipe demands."""


class Gates(Section):
    """Limits that stop a bundle; one that is null stops none.

    ``max_perplexity_rise`` over the merged model, as a share, on held-out code; ``max_kl`` is the mean Kullback-Leibler
    divergence of its next-token distributions from the merged model's, in nats. Of the golden set:
    ``min_golden_pass_rate`` and ``min_citation_validity``. The mean answer may be longer or shorter than the
    unquantized model's by the share ``max_length_change``, so that nobody wins by saying less; it holds unwritten, too,
    wherever answers were measured.
    """

    max_perplexity_rise: float | None = Field(default=None, ge=0)
    max_kl: float | None = Field(default=None, ge=0)
    min_golden_pass_rate: float | None = Field(default=None, ge=0, le=1)
    min_citation_validity: float | None = Field(default=None, ge=0, le=1)
    max_length_change: float | None = Field(default=0.10, ge=0)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the gates look at; None was not measured. ``length_change`` is signed: -0.2 says a fifth less."""

    perplexity_rise: float | None = None
    kl: float | None = None
    golden_pass_rate: float | None = None
    citation_validity: float | None = None
    length_change: float | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate: ``measured`` is None where nothing was, ``is_least`` tells a lower limit from an upper one."""

    name: str
    measured: float | None
    allowed: float
    is_least: bool
    passed: bool

    def __str__(self) -> str:
        measured = "was not measured" if self.measured is None else f"is {self.measured:.4g}"
        return f"{self.name} {measured}, {'at least' if self.is_least else 'at most'} {self.allowed:.4g} is allowed"


def check(gates: Gates, measured: Measured) -> list[GateResult]:
    """Every gate that is set, in the order of `Gates`."""
    change = measured.length_change
    upper = [
        ("max_perplexity_rise", gates.max_perplexity_rise, measured.perplexity_rise),
        ("max_kl", gates.max_kl, measured.kl),
    ]
    least = [
        ("min_golden_pass_rate", gates.min_golden_pass_rate, measured.golden_pass_rate),
        ("min_citation_validity", gates.min_citation_validity, measured.citation_validity),
    ]
    results = [_at_most(*one) for one in upper] + [_at_least(*one) for one in least]
    if change is not None or "max_length_change" in gates.model_fields_set:
        results.append(
            _at_most("max_length_change", gates.max_length_change, change if change is None else abs(change))
        )
    return [result for result in results if result is not None]


def require(results: Sequence[GateResult]) -> None:
    """
    Raises:
        GateFailed: naming every gate that failed, with what was measured and what is allowed.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        raise GateFailed(
            "; ".join(map(str, failed)),
            "change quantization (method, group_size, ratio) or the gate in the recipe; no bundle was made",
        )


def _at_most(name: str, allowed: float | None, measured: float | None) -> GateResult | None:
    if allowed is None:
        return None
    return GateResult(
        name, measured, allowed, False, measured is not None and isfinite(measured) and measured <= allowed
    )


def _at_least(name: str, allowed: float | None, measured: float | None) -> GateResult | None:
    if allowed is None:
        return None
    return GateResult(
        name, measured, allowed, True, measured is not None and isfinite(measured) and measured >= allowed
    )


__all__ = ["GateFailed", "GateResult", "Gates", "Measured", "check", "require"]
