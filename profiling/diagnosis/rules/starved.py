"""The engine has work all the time and gets little processor time: too few threads, or others on its cores."""

from collections.abc import Iterator, Mapping

from slipstream.profiling.diagnosis.case import Case
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.telemetry.records import CPU_ENGINE, LOAD_GENERATOR

_WORKING = 0.8  # of the looks with a generation in the batch
_GETS = 0.7  # of the machine's cores, at most; an engine alone on a machine gets nearly all of them
_CROWDED = 0.85  # machine's CPU from which on its cores are taken by somebody
_OWNS = 0.5  # of the time of an answer
_LEAST_LOOKS = 4


def check(case: Case) -> Finding | None:
    """Needs the process of an engine on the CPU, whatever cards the machine has, and its gauges."""
    looks, used = case.looks, case.processes()
    if len(looks) < _LEAST_LOOKS or CPU_ENGINE not in used or not case.cores:
        return None
    if not case.gauges or not engine_works(case) or used[CPU_ENGINE] > _GETS * case.cores:
        return None
    return Finding(
        rule="starved",
        cause="The engine has work and gets too little processor time for it.",
        evidence=(
            f"a generation ran in {_working(case)} of {len(case.gauges)} looks",
            *_who_used_the_cores(used, case.cores, _busy(case)),
            *_threads(case),
        ),
        remedy=_ALONE if _busy(case) < _CROWDED else _CROWD,
    )


_ALONE = "let it use more: start the server where it may run on more cores (taskset, a container's cpuset or quota)"
_CROWD = "move what else runs away from the server's cores, or give the server cores of its own (a cpuset)"


def _busy(case: Case) -> float:
    """Share of all cores; 0 where the machine did not tell."""
    told = case.machine("cpu_share")
    return float(told.mean()) if len(told) else 0.0


def _who_used_the_cores(used: Mapping[str, float], cores: int, busy: float) -> Iterator[str]:
    beside = {role: share for role, share in used.items() if role not in (CPU_ENGINE, LOAD_GENERATOR)}
    sending = used.get(LOAD_GENERATOR, 0.0)
    others = max(busy * cores - sum(used.values()), 0.0)
    yield f"the engine used {used[CPU_ENGINE]:.2f} of {cores} cores, the rest of the server {sum(beside.values()):.2f}"
    yield f"the machine was {busy:.0%} busy: the load generator used {sending:.2f} cores, others {others:.2f}"


def _threads(case: Case) -> Iterator[str]:
    found = [one.threads for look in case.looks for one in look.processes if one.role == CPU_ENGINE and one.threads]
    if found:
        yield f"the engine's process has {max(found)} threads"


def engine_works(case: Case) -> bool:
    """Whether the engine has work nearly always, as far as it tells, and its own stages are most of an answer."""
    every = case.breakdowns[0].every if case.breakdowns else None
    owns = every is not None and every.share("prefill") + every.share("decode") >= _OWNS
    return owns and _working(case) >= _WORKING * len(case.gauges)


def _working(case: Case) -> int:
    return sum(look.active >= 1 for look in case.gauges)


__all__ = ["check", "engine_works"]
