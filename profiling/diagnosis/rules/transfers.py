"""Decode steps are slow exactly when much goes over PCIe: copies between host and device hold them up."""

import itertools

import numpy as np

from slipstream.profiling.diagnosis.case import Case, Floats
from slipstream.profiling.diagnosis.finding import Finding

_PEAK = 3.0  # times the median traffic
_MUCH_BYTES_PER_S = 1e9  # less than a sixteenth of what 16 lanes of PCIe 3 carry holds nobody up
_SLOWER = 1.3  # median step during peaks over that of the rest
_LEAST = 3  # looks of each kind


def check(case: Case) -> Finding | None:
    """Needs a GPU that tells its PCIe traffic, and decode steps whose moments are known."""
    looks = [look for look in case.looks if any(gpu.pcie_rx_bytes_per_s is not None for gpu in look.gpus)]
    if len(looks) < 2 * _LEAST or not len(case.steps):
        return None
    at = np.array([look.t_s for look in looks])
    traffic = np.array(
        [
            max((gpu.pcie_rx_bytes_per_s or 0.0) + (gpu.pcie_tx_bytes_per_s or 0.0) for gpu in look.gpus)
            for look in looks
        ]
    )
    step_ms = _steps_before(case, at)
    known = np.isfinite(step_ms)
    peaks = (traffic >= max(_PEAK * float(np.median(traffic)), _MUCH_BYTES_PER_S)) & known
    calm = ~peaks & known
    if peaks.sum() < _LEAST or calm.sum() < _LEAST:
        return None
    slow, usual = float(np.median(step_ms[peaks])), float(np.median(step_ms[calm]))
    if slow < _SLOWER * usual:
        return None
    return Finding(
        rule="transfers",
        cause="Copies between host and GPU hold decode steps up.",
        evidence=(
            (
                f"PCIe peaks of {traffic[peaks].max() / 1e9:.1f} GB/s in {peaks.sum()} of {len(looks)} looks, "
                f"{np.median(traffic) / 1e9:.2f} GB/s in the median"
            ),
            f"a decode step takes {slow:.1f} ms then and {usual:.1f} ms otherwise",
        ),
        remedy="keep on the device what is copied (no KV cache offload to the host, logits sampled on the GPU), pin "
        "host memory, and look which copies they are: slipstream profile nsys",
    )


def _steps_before(case: Case, at: Floats) -> Floats:
    """Median decode step that began between the look before and each look [n]; NaN where none did."""
    edges = np.concatenate([[2 * at[0] - at[1]], at])
    places = np.searchsorted(case.steps.start_s, edges)
    parts = [case.steps.length_ms[start:end] for start, end in itertools.pairwise(places)]
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


__all__ = ["check"]
