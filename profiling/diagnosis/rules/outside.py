"""The slow tail's time passed where no stage of the server was: before it got the request, or on the way back."""

from slipstream.loadtest.report.stages import REST
from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding

_MUCH = 0.1  # of the slow tail; the stages of a request sum to its time within 3%
_LEAST_MS = 20.0


def check(case: Case) -> Finding | None:
    """Needs timelines only."""
    whole = case.breakdowns[0] if case.breakdowns else None
    if whole is None or whole.tail.share(REST) < _MUCH or whole.tail.stages[REST] < _LEAST_MS:
        return None
    return Finding(
        rule="outside",
        cause="Part of the slow answers' time passed outside of every stage: on the way, in a proxy, or in the client.",
        evidence=(
            (
                f"{whole.tail.stages[REST]:.0f} ms of the slowest 5% are in no stage, {whole.tail.share(REST):.0%} of "
                f"their time; {whole.every.stages.get(REST, 0.0):.0f} ms of all requests"
            ),
        ),
        remedy="send the load from the server's own machine and compare; look at how much processor time the load "
        "generator had",
        severity="low",
    )


__all__ = ["check"]
