"""Too few proposed tokens are accepted: verifying them costs more than the accepted ones save."""

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding

# Of 4 proposed tokens 0.3 make a step yield 2.2 tokens. It also verifies five positions instead of one and has to draft
# them, which where compute is scarce costs about as much: a rule of thumb, and `draft: auto` measures.
_POOR = 0.3
_LEAST_PROPOSED = 200


def check(case: Case) -> Finding | None:
    """Needs the engine's counters."""
    if len(case.gauges) < 2:
        return None
    first, last = case.gauges[0], case.gauges[-1]
    proposed, accepted = last.proposed - first.proposed, last.accepted - first.accepted
    if proposed < _LEAST_PROPOSED or accepted / proposed >= _POOR:
        return None
    rate = accepted / proposed
    return Finding(
        rule="speculation",
        cause="The draft proposes tokens that the engine mostly rejects, so speculation costs time.",
        evidence=(
            f"{accepted:,.0f} of {proposed:,.0f} proposed tokens were accepted ({rate:.0%})",
            (
                f"{proposed - accepted:,.0f} positions were computed for nothing, "
                f"{(proposed - accepted) / max(last.tokens - first.tokens, 1):.1f} for each token of an answer"
            ),
        ),
        remedy="set draft: none in the recipe, or draft: auto, which measures and keeps what is faster; a draft "
        "distilled on these questions (draft: distilled) is accepted more often",
        severity="high" if rate < _POOR / 2 else "low",
    )


__all__ = ["check"]
