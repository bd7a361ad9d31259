"""Decode steps take about as long as reading the weights does: no scheduling makes them shorter."""

import numpy as np

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding

_NEAR = 0.6  # of the measured bandwidth; more than that no real step reaches
_LEAST_STEPS = 20


def check(case: Case) -> Finding | None:
    """Needs the machine's limit with the bundle."""
    limit, lengths = case.limit, case.steps.length_ms
    if limit is None or len(lengths) < _LEAST_STEPS:
        return None
    usual, reading = float(np.median(lengths)), limit.reading_ms(limit.decode)
    achieved = reading / usual if usual > 0 else 0.0
    if achieved < _NEAR or limit.least_ms(limit.decode) > reading:
        return None
    return Finding(
        rule="memory_bound",
        cause="Decode steps run at the bandwidth of memory: each reads every weight once, whatever it computes.",
        evidence=(
            f"a decode step takes {usual:.1f} ms (median of {len(lengths):,}), with {limit.streams} sequences in it",
            (
                f"reading the {limit.decode.read_bytes / 1e6:.0f} MB that it needs takes {reading:.1f} ms at the "
                f"{limit.memory_bytes_per_s / 1e9:.1f} GB/s measured here: {achieved:.0%} of what is possible"
            ),
        ),
        remedy="let one reading serve more sequences (serving.max_concurrency), or read less: fewer bits "
        "(quantization.method and quantization.bits in the recipe)",
        severity="low",
    )


__all__ = ["check"]
