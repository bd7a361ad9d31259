"""What a profile comes to, computed from the files of its folder and nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from slipstream.loadtest.folder import Moments, NoRunThere
from slipstream.loadtest.report.records import Run
from slipstream.loadtest.results.plain import as_plain
from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.scenario import Scenario
from slipstream.profiling.diagnosis.case import Case, EngineLook
from slipstream.profiling.diagnosis.diagnose import diagnose
from slipstream.profiling.diagnosis.finding import Finding
from slipstream.profiling.limit.known import Limit
from slipstream.profiling.run.engine_watch import read_engine
from slipstream.profiling.run.folder import NoProfileThere, ProfileFolder, read_timeline, write_timeline
from slipstream.profiling.run.limits import work_limit
from slipstream.profiling.telemetry.records import Telemetry
from slipstream.profiling.telemetry.sampler import read_telemetry
from slipstream.profiling.timeline.clock import Agreement, agreement, received_ns
from slipstream.profiling.timeline.model import Request, Timeline
from slipstream.profiling.timeline.shares import Breakdown, StageRow, row, stage_rows

_SERVING = frozenset({"facade", "triton", "engine"})


@dataclass(frozen=True)
class Profile:
    """A profile, concluded.

    Attributes:
        received_ns: when the server received each request of the timeline, on the client's clock.
        start_ns: of the run, on that clock.
        telemetry: of the machine that sent the load; ``case`` has it only where that is the server's, too.
        stopped_s: when the run was stopped; None: it ended by itself.
    """

    run: Run
    scenario: Scenario
    timeline: Timeline
    received_ns: Sequence[int | None]
    start_ns: int
    telemetry: Sequence[Telemetry]
    engine: Sequence[EngineLook]
    agreement: Agreement | None
    case: Case
    findings: Sequence[Finding]
    stopped_s: float | None

    @cached_property
    def stages(self) -> tuple[StageRow, ...]:
        return stage_rows(self.timeline)

    @property
    def breakdowns(self) -> tuple[Breakdown, ...]:
        return self.case.breakdowns

    @cached_property
    def latencies(self) -> tuple[StageRow, ...]:
        """TTFT, TPOT, end-to-end as the client measured them, and every decode step that the server told."""
        requests = self.timeline.requests
        named = {
            "TTFT": [request.ttft_ms for request in requests if request.ttft_ms is not None],
            "TPOT": [
                (request.end_to_end_ms - request.ttft_ms) / (request.output_tokens - 1)
                for request in requests
                if request.ttft_ms is not None and request.output_tokens is not None and request.output_tokens > 1
            ],
            "end-to-end": [request.end_to_end_ms for request in requests],
            "decode step": [length for timing in self.timeline.timings for length in timing.steps_ms],
        }
        return tuple(row(name, values) for name, values in named.items() if values)

    @property
    def step_ms(self) -> float | None:
        """The median decode step."""
        return next((one.at_ms[0] for one in self.latencies if one.stage == "decode step"), None)

    def as_dict(self) -> dict[str, Any]:
        """For ``profile.json``."""
        limit = self.case.limit
        plain: dict[str, Any] = as_plain(
            {
                "format": 1,
                "scenario": self.scenario.name,
                "run": self.run,
                "stopped_s": self.stopped_s,
                "requests": {
                    "measured": self.timeline.asked, "failed": self.timeline.failed, "profiled": len(self.timeline)
                },
                "findings": list(self.findings),
                "latencies_ms": self.latencies,
                "stages_ms": self.stages,
                "breakdowns": [{"owner": one.owner, **as_plain(one)} for one in self.breakdowns],
                "agreement": self.agreement,
                "machine": dict(machine_rows(self.case)),
                "limit": None if limit is None else {**as_plain(limit), "step_ms": limit.least_ms(limit.decode)},
            }
        )  # fmt: skip
        return plain


def conclude(folder: ProfileFolder) -> Profile:
    """Compute the profile in ``folder``; its timeline is written beside the samples that it comes from.

    Raises:
        NoRunThere: it holds no run, or one that never began.
        SamplesUnreadable: see `read_samples`.
        NoProfileThere: its timeline is none.
    """
    run, _, moments = folder.read_run()
    if moments is None or not (folder.samples.is_file() or folder.timeline.is_file()):
        raise NoRunThere(f"the run in {folder.root} never began", f"see {folder.generator_log}")
    if folder.samples.is_file():
        write_timeline(folder.timeline, list(read_samples(folder.samples)), moments.monotonic)
    requests = read_timeline(folder.timeline)
    timeline = Timeline.of(requests)
    start_ns = round(moments.monotonic * 1e9)
    telemetry = read_telemetry(folder.telemetry, moments.monotonic)
    engine = read_engine(folder.engine, moments.monotonic)
    here = is_here(telemetry)
    received, joined = received_ns(timeline, round(moments.at * 1e9) - start_ns, is_here=here)
    case = Case(
        timeline=timeline,
        received_s=[None if at is None else (at - start_ns) / 1e9 for at in received],
        telemetry=telemetry if here else (),
        engine=engine,
        limit=work_limit(Limit.read(folder.limit), timeline, engine) if here else None,
        cores=int(run.host["cores"]) if here and run.host.get("cores", "").isdecimal() else None,
    )
    return Profile(
        run=run,
        scenario=_scenario(folder),
        timeline=timeline,
        received_ns=received,
        start_ns=start_ns,
        telemetry=telemetry,
        engine=engine,
        agreement=agreement(timeline, joined),
        case=case,
        findings=diagnose(case),
        stopped_s=_stopped_s(moments, requests),
    )


def _scenario(folder: ProfileFolder) -> Scenario:
    try:
        return Scenario.model_validate(json.loads(folder.plan.read_bytes())["scenario"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise NoProfileThere(f"{folder.plan} is no plan: {error}", "give the folder as it was written") from error


def _stopped_s(moments: Moments, requests: Sequence[Request]) -> float | None:
    """As a load test says it: one that was killed was stopped at the last moment that is kept."""
    if moments.ended_s is None:
        return max((request.end_ns / 1e9 - moments.monotonic for request in requests), default=0.0)
    return moments.ended_s if moments.was_stopped else None


def is_here(telemetry: Sequence[Telemetry]) -> bool:
    """Whether the machine that was watched is the server's: its processes were found there.

    What else listens at its address, such as ssh or kubectl, may be the end of a tunnel.
    """
    return any(process.role in _SERVING for look in telemetry for process in look.processes)


def machine_rows(case: Case) -> list[tuple[str, str]]:
    """What the server's machine did while requests were in flight; nothing where it was not watched."""
    rows = []
    cpu, core = case.machine("cpu_share"), case.machine("busiest_core_share")
    if len(cpu):
        most = f", the busiest core {core.mean():.0%}" if len(core) else ""
        rows.append(("CPU", f"{cpu.mean():.0%} of {case.cores or 'all'} cores busy{most}"))
    if used := sorted(case.processes().items(), key=lambda item: -item[1]):
        rows.append(("cores used", ", ".join(f"{role} {cores:.2f}" for role, cores in used if cores >= 0.005)))
    memory = [look.memory_bytes / look.memory_total_bytes for look in case.looks
              if look.memory_bytes is not None and look.memory_total_bytes]  # fmt: skip
    if memory:
        rows.append(("memory", f"{max(memory):.0%} in use at most"))
    gpus = [gpu.busy_share for look in case.looks for gpu in look.gpus if gpu.busy_share is not None]
    if gpus:
        rows.append(("GPU", f"busy {fmean(gpus):.0%} of the time"))
    if case.gauges:
        active, waiting = (fmean(getattr(look, name) for look in case.gauges) for name in ("active", "waiting"))
        full = max(look.cache_usage_ratio for look in case.gauges)
        told = f"{active:.1f} generations running and {waiting:.1f} waiting, KV cache {full:.0%} full at most"
        rows.append(("engine", told))
    return rows


__all__ = ["Profile", "conclude", "is_here", "machine_rows"]
