"""The GPU idles while the server keeps a core busy: the host cannot issue work as fast as the GPU does it."""

from collections.abc import Sequence

import numpy as np

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.diagnosis.rules.starved import engine_works
from slipstream.profiling.telemetry.records import CPU_ENGINE, LOAD_GENERATOR, Telemetry

_IDLE = 0.5  # of the time a kernel ran, at most
_BUSY = 0.9  # of the busiest core, and of a core the processes of one role of the server
_LEAST_LOOKS = 5


def check(case: Case) -> Finding | None:
    """Needs a GPU that tells how busy it is, and the server's processes; a GPU without work idles by right.

    So does one beside an engine on the CPU, which has a process of its own.
    """
    gpu, core = gpu_busy(case.looks), case.machine("busiest_core_share")
    if len(gpu) < _LEAST_LOOKS or len(core) < _LEAST_LOOKS:
        return None
    if float(np.mean(gpu)) >= _IDLE or float(np.mean(core)) < _BUSY:
        return None
    used = case.processes()
    if CPU_ENGINE in used:
        return None
    serving = {role: cores for role, cores in used.items() if role != LOAD_GENERATOR}
    role = max(serving, key=lambda role: serving[role], default="")
    if serving.get(role, 0.0) < _BUSY or not engine_works(case):
        return None
    return Finding(
        rule="host_bound",
        cause="The GPU waits for the host: it idles while one core is busy all the time.",
        evidence=(
            f"a kernel ran in {np.mean(gpu):.0%} of the time",
            f"the busiest core was busy in {np.mean(core):.0%} of it",
            f"{role} used {serving[role]:.1f} cores, the most of the server's processes",
        ),
        remedy="batch more (serving.max_concurrency), send tokens together (serving.stream_interval), record the "
        "step as a CUDA graph, or give the engine's process faster cores of its own",
    )


def gpu_busy(looks: Sequence[Telemetry]) -> list[float]:
    """Of each look that tells it, the busiest GPU's share."""
    told = ([gpu.busy_share for gpu in look.gpus if gpu.busy_share is not None] for look in looks)
    return [max(shares) for shares in told if shares]


__all__ = ["check", "gpu_busy"]
