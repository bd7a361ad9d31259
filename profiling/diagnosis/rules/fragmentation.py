"""Memory near full that jumps up and down: blocks are freed and sought again, and some no longer fit."""

import numpy as np

from slipstream.profiling.diagnosis.case import Case, Floats
from slipstream.profiling.diagnosis.finding import Finding

_NEAR_FULL = 0.92
_JUMP = 0.04  # of all memory between two looks
_LEAST_JUMPS = 3  # up and down together, each kind at least once
_LEAST_LOOKS = 6


def check(case: Case) -> Finding | None:
    """Looks at every GPU that tells its memory, and at the machine's own."""
    for name, shares in _memories(case).items():
        if len(shares) < _LEAST_LOOKS or float(np.max(shares)) < _NEAR_FULL:
            continue
        changes = np.diff(shares)
        up, down = int((changes >= _JUMP).sum()), int((changes <= -_JUMP).sum())
        if up and down and up + down >= _LEAST_JUMPS:
            return _finding(name, shares, up, down)
    return None


def _memories(case: Case) -> dict[str, Floats]:
    """Share in use of each memory, look by look; equal MIG instances of a card differ in their UUID only."""
    found: dict[str, list[float]] = {}
    for look in case.looks:
        for gpu in look.gpus:
            if gpu.memory_bytes is not None and gpu.memory_total_bytes:
                name = f"GPU {gpu.index}" + (f" ({gpu.mig}, {gpu.uuid[:12]})" if gpu.mig else "")
                found.setdefault(name, []).append(gpu.memory_bytes / gpu.memory_total_bytes)
        if look.memory_bytes is not None and look.memory_total_bytes:
            found.setdefault("the machine", []).append(look.memory_bytes / look.memory_total_bytes)
    return {name: np.array(shares) for name, shares in found.items()}


def _finding(name: str, shares: Floats, up: int, down: int) -> Finding:
    return Finding(
        rule="fragmentation",
        cause=f"The memory of {name} is nearly full and jumps: it is allocated and freed while requests run.",
        evidence=(
            f"between {shares.min():.0%} and {shares.max():.0%} in use",
            (
                f"{up} jumps up and {down} down by {_JUMP:.0%} of it or more between two looks, "
                f"the largest {np.abs(np.diff(shares)).max():.0%}"
            ),
        ),
        remedy="give the KV cache one block for good that leaves room for activations: lower serving.kv_cache_bytes; "
        "on a GPU lower free_gpu_memory_fraction too, and let no other process share it",
    )


__all__ = ["check"]
